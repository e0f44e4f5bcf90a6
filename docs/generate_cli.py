"""The text of ``docs/cli.md``: the help of every command, as the program prints it.

    python docs/generate_cli.py     write the page

Knows no command by name; what the program offers is what stands on the page.
"""

from __future__ import annotations

from pathlib import Path

import typer
from typer.testing import CliRunner

from forwardpass.cli.main import app

PAGE = Path(__file__).parent / "cli.md"
WIDTH = 100

HEAD = """\
<!-- Written by docs/generate_cli.py from the program's own help. Do not edit. -->

# The command line

Exit codes: 0, 1 for an error (one line on stderr says which), 2 for wrong arguments. `--json`
prints one line of JSON per row or model, for programs. Colours only on a terminal, and not where
`NO_COLOR` is set.
"""


def cli_reference() -> str:
    """The whole page."""
    names = [command.name for command in typer.main.get_group(app).commands.values() if command.name]
    parts = [_section("forwardpass", [])] + [_section(f"forwardpass {name}", [name]) for name in names]
    return "\n".join([HEAD, *parts])


def _section(title: str, arguments: list[str]) -> str:
    result = CliRunner().invoke(
        app, [*arguments, "--help"], prog_name="forwardpass", terminal_width=WIDTH, max_content_width=WIDTH
    )
    return f"## `{title}`\n\n```text\n{result.output.rstrip()}\n```\n"


if __name__ == "__main__":
    PAGE.write_text(cli_reference(), encoding="utf-8")
