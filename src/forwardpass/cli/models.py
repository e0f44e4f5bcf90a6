"""``forwardpass models``: which models and versions there are, on disk or on a running server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from forwardpass.config import ModelConfig


def models(
    path: Annotated[
        Path | None,
        typer.Argument(metavar="PATH", help="An artifact, a model folder or a repository. [default: this folder]"),
    ] = None,
    url: Annotated[str | None, typer.Option(help="Ask a running server instead: http://127.0.0.1:8000")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON per version.")] = False,
) -> None:
    """List models and their versions.

    On disk a version is `found`, or `unusable` where its model.yaml or its artifact cannot be read;
    on a server it is LOADING, READY, UNLOADING or UNAVAILABLE.

    \b
    Example:
      forwardpass models examples/models
    """
    from forwardpass.cli.output import say, say_json, table

    if path is not None and url is not None:
        raise typer.BadParameter("give PATH or --url, not both")
    found = _on_server(url) if url else _on_disk(path or Path())
    if as_json:
        for item in found:
            say_json(item)
        return
    header = ["name", "version", "state", "description"]
    say(table(header, [[*(str(item[name]) for name in header[:3]), _about(item)] for item in found]))


def _about(item: dict[str, Any]) -> str:
    return " ".join((item["reason"] or item["description"]).split())


def _on_server(url: str) -> list[dict[str, Any]]:
    from forwardpass.cli.client import Client

    return Client(url).models()


def _on_disk(path: Path) -> list[dict[str, Any]]:
    from forwardpass.errors import InvalidModel
    from forwardpass.registry import locate_models, read_model

    found = []
    for location in locate_models(path):
        item = {"name": location.name, "version": location.version, "path": str(location.path)}
        try:
            config = read_model(location).config
            found.append({**item, "state": "found", "reason": "", "description": _described(config)})
        except InvalidModel as error:
            found.append({**item, "state": "unusable", "reason": error.message, "description": ""})
    return found


def _described(config: ModelConfig) -> str:
    """The model's own line; of one without an artifact at least what it is made of."""
    if config.description or not config.composed:
        return config.description
    return f"remote: {', '.join(config.remote.urls)}" if config.remote else f"cascade: {' → '.join(config.cascade)}"
