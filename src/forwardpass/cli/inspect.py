"""``forwardpass inspect``: what a model is, takes, does and gives, and what is wrong with it; or a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def inspect(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="An artifact, a model folder, a repository of them, or a bundle.")
    ],
    key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Public key that must have signed the bundle.")
    ] = None,
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

    if path.suffix == ".bundle" and path.is_file():
        _inspect_bundle(path, key, as_json)
        return
    if key is not None:
        raise typer.BadParameter(f"--key is for bundles, and {path} is none")
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


def _inspect_bundle(path: Path, key: Path | None, as_json: bool) -> None:
    from forwardpass.cli.bundle_portrait import bundle_facts, bundle_portrait
    from forwardpass.cli.output import say, say_json

    facts = bundle_facts(path, key)
    if as_json:
        say_json(facts)
    else:
        say(bundle_portrait(facts))
