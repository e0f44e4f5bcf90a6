"""The program of a device: the agent, with models that are made of others or lie elsewhere.

``python -m forwardpass.device agent …``. All it knows is both rooms, which do not know each other.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from forwardpass.edge.main import main as run

if TYPE_CHECKING:
    from pathlib import Path

    from forwardpass.server.composed import Composer, Defer


def make_composer(urls: Sequence[str], token_file: Path | None, defer: Defer, withheld: str) -> Composer:
    """What puts composed models together; imported once there is one."""
    from forwardpass.gateway.compose import create_composer

    return create_composer(urls, defer, token_file=token_file, withheld=withheld)


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code."""
    return run(argv, make_composer)


if __name__ == "__main__":
    sys.exit(main())
