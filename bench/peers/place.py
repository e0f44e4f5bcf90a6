"""Where one server of a peer runs. Knows no peer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Place:
    """Where a server runs: its environment's ``bin``, the port it gets, a folder of its own, and what it serves."""

    programs: Path
    port: int
    scratch: Path
    kind: str
    batch: int
