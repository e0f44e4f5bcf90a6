"""The machine-readable head of a model card: YAML front matter between two ``---`` lines.

A training program writes the figures that it measured here, so that the card cannot drift from
the artifact; the words below the front matter are written by hand. Knows no model.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

FENCE = "---\n"
TOLERANCE = 1e-5


def read_card(folder: Path) -> dict[str, Any]:
    """The front matter of a model folder's ``README.md``: ``metrics`` and ``tolerance``."""
    head, _ = _split(folder / "README.md")
    front: dict[str, Any] = yaml.safe_load(head)
    return front


def write_card(folder: Path, metrics: Mapping[str, float]) -> None:
    """Replace the front matter of ``README.md``; the words below it stay."""
    card = folder / "README.md"
    _, words = _split(card)
    head = yaml.safe_dump({"metrics": dict(metrics), "tolerance": TOLERANCE}, sort_keys=False)
    card.write_text(FENCE + head + FENCE + words, encoding="utf-8")


def _split(card: Path) -> tuple[str, str]:
    before, head, words = card.read_text(encoding="utf-8").split(FENCE, 2)
    if before:
        raise ValueError(f"{card}: must begin with front matter between two `---` lines")
    return head, words
