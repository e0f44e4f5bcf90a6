"""The program: its commands, and how an error of ours is told.

Imports nothing heavy, so that ``--help`` is instant: each command imports what it needs when it runs.
Help and tables are plain text; the library that draws boxes would cost more than all the rest.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from forwardpass import __version__
from forwardpass.cli.agent import SETTINGS, agent
from forwardpass.cli.bench import bench
from forwardpass.cli.bundle import bundle
from forwardpass.cli.calibrate import calibrate
from forwardpass.cli.import_model import import_model
from forwardpass.cli.inspect import inspect
from forwardpass.cli.models import models
from forwardpass.cli.optimize import optimize
from forwardpass.cli.predict import predict
from forwardpass.cli.publish import publish
from forwardpass.cli.run import run
from forwardpass.cli.serve import serve
from forwardpass.cli.tune import tune

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"forwardpass {__version__}")
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Run trained models on new data.

    \b
    Example:
      forwardpass serve examples/models
    """


for command in (serve, predict, run, inspect, models, bench, tune, optimize, calibrate, bundle):
    app.command()(command)
app.command()(publish)
app.command("import")(import_model)
app.command(context_settings=SETTINGS)(agent)


def main() -> None:
    """Run the command line. An error of ours is one line on stderr and exit code 1."""
    try:
        app(prog_name="forwardpass")
    except Exception as error:
        from forwardpass.errors import ForwardpassError  # brings numpy with it: only once something was raised

        if not isinstance(error, ForwardpassError):
            raise
        typer.echo(f"forwardpass: {' '.join(error.message.split())}", err=True)
        sys.exit(1)
