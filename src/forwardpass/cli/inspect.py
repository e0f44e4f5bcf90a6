"""``forwardpass inspect``: what a model is, takes, does and gives, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def inspect(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="An artifact, a model folder, or a repository of them.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON per version.")] = False,
) -> None:
    """Show what a model takes, does and gives.

    Loads it as the server would. Where it cannot be used, says why, with the line of model.yaml
    that is wrong; the exit code is then 1.

    \b
    Example:
      forwardpass inspect examples/models/digits
    """
    from forwardpass.cli.facts import facts_of
    from forwardpass.cli.output import say, say_json
    from forwardpass.cli.portrait import portrait
    from forwardpass.registry import locate_models

    wrong = False
    for number, location in enumerate(locate_models(path)):
        facts = facts_of(location)
        wrong = wrong or "problem" in facts
        if as_json:
            say_json(facts)
        else:
            say(("\n" if number else "") + portrait(facts))
    if wrong:
        raise typer.Exit(1)
