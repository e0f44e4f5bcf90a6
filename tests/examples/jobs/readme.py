"""Runs the commands of an example's README as they are written, in a folder of its own.

Knows no example; they find the repository's `examples/` beside them, as a reader does.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[3] / "examples"


def commands(job: str) -> list[str]:
    """The commands in the shell blocks of ``examples/jobs/JOB/README.md``: a line each, or on to the closing quote."""
    text = (EXAMPLES / "jobs" / job / "README.md").read_text(encoding="utf-8")
    found: list[str] = []
    for line in "".join(re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)).splitlines():
        if found and found[-1].count('"') % 2:
            found[-1] += "\n" + line
        elif line:
            found.append(line)
    return found


def run(command: str, folder: Path) -> str:
    """What it prints. Fails the test with all it said where it ends with an error."""
    beside = folder / "examples"
    if not beside.exists():
        beside.symlink_to(EXAMPLES)
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    process = subprocess.run(
        ["sh", "-c", command], cwd=folder, env={**os.environ, "PATH": programs}, capture_output=True, text=True
    )
    assert process.returncode == 0, f"{command}\n{process.stdout}{process.stderr}"
    return process.stdout + process.stderr
