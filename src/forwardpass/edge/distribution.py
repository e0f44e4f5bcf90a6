"""Which distribution of Forwardpass is installed here, for hints that can be followed.

A device has ``forwardpass-edge``: its program is ``forwardpass-agent``, and it has no pip. Any other machine has
``forwardpass agent``. Looks at what lies beside Python, and imports nothing.
"""

from __future__ import annotations

import sys
from pathlib import Path

# What the extras of both distributions bring, by the names that pip knows.
_LIBRARIES = {
    "images": "pillow",
    "text": "tokenizers",
    "mqtt": "aiomqtt",
    "updates": "tuf urllib3",
    "video": "av",
}


class Distribution:
    """The one in an environment of Python, ``prefix``."""

    def __init__(self, prefix: Path) -> None:
        self._prefix = prefix

    @property
    def program(self) -> str:
        """What the agent is called."""
        return "forwardpass-agent" if self._is_edge else "forwardpass agent"

    def how_to_get(self, extra: str) -> str:
        """The command that brings the libraries of an extra here."""
        if self._is_edge:
            return f"python3 packaging/edge/install.py {self._prefix} --extra {extra}, in the sources of Forwardpass"
        return f"pip install {_LIBRARIES[extra]}"

    @property
    def _is_edge(self) -> bool:
        return (self._prefix / "bin" / "forwardpass-agent").exists()


HERE = Distribution(Path(sys.prefix))
