"""The program: its commands, and how an error of ours is told."""

from __future__ import annotations

import sys

import typer

from forwardpass.cli.serve import serve
from forwardpass.errors import ForwardpassError

app = typer.Typer(
    help="Run trained models on new data.", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)
app.callback()(lambda: None)
app.command()(serve)


def main() -> None:
    try:
        app()
    except ForwardpassError as error:
        print(f"forwardpass: {error.message}", file=sys.stderr)  # noqa: T201
        sys.exit(1)
