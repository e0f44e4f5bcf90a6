"""What a repository may lose: releases that newer ones have replaced, their chunks, and the metadata of past states.

Kept is all that the metadata of now names, every root, and the newest few of the rest, for devices that are in the
middle of a look. Knows no keys; whoever calls it has read the state of now, and nobody publishes meanwhile.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from forwardpass.edge.durable import TEMPORARY
from forwardpass.edge.updates.metadata import State
from forwardpass.edge.updates.release import Release, decode_release
from forwardpass.errors import InvalidModel

_METADATA = re.compile(r"(\d+)\.(?:targets|snapshot)\.json")
_RELEASE = re.compile(r"[0-9a-f]{64}\.(.+)")  # of a file with its digest before its name: the name
_CHUNK = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Pruned:
    """How much was removed."""

    files: int
    size: int


def prune(folder: Path, state: State, keep: int) -> Pruned:
    """Remove all but the newest ``keep`` releases of each channel, target and model, and metadata of as many states.

    The present ones, which can be read, are counted among them and stay in any case. Raises ``OSError``.
    """
    stale, chunks = _releases(folder / "targets", state, keep)
    stale += _metadata(folder / "metadata", state, keep)
    stale += [path for path in _files(folder / "chunks") if _CHUNK.fullmatch(path.name) and path.name not in chunks]
    for part in ("metadata", "targets", "chunks"):
        stale += [path for path in _files(folder / part) if path.name.endswith(TEMPORARY)]
    removed = Pruned(len(stale), sum(path.stat().st_size for path in stale))
    for path in stale:
        path.unlink()
    return removed


def _releases(folder: Path, state: State, keep: int) -> tuple[list[Path], set[str]]:
    """The releases to remove, and the chunks of the others."""
    present = {f"{target.hashes['sha256']}.{path.rpartition('/')[2]}" for path, target in state.targets.items()}
    groups: dict[tuple[Path, str], list[tuple[bool, datetime, Path]]] = defaultdict(list)
    chunks: dict[Path, set[str]] = {}
    stale = []
    for path in _files(folder):
        if not (named := _RELEASE.fullmatch(path.name)):
            continue
        release = _read(path)
        published = release.published if release else datetime.min.replace(tzinfo=UTC)
        groups[path.parent, named[1]].append((path.name in present, published, path))
        chunks[path] = {chunk.sha256 for chunk in release.chunks} if release else set()
    for group in groups.values():
        stale += [path for _, _, path in sorted(group, reverse=True)[keep:]]
    return stale, set().union(*(chunks[path] for path in chunks.keys() - set(stale)))


def _read(path: Path) -> Release | None:
    """A release; None where it cannot be read, and so not be wanted either."""
    try:
        return decode_release(path.read_bytes())
    except InvalidModel:
        return None


def _metadata(folder: Path, state: State, keep: int) -> Iterable[Path]:
    numbers = {path: int(named[1]) for path in _files(folder) if (named := _METADATA.fullmatch(path.name))}
    past = sorted({number for number in numbers.values() if number < state.version}, reverse=True)
    kept = {state.version, *past[: keep - 1]}
    return [path for path, number in numbers.items() if number not in kept]


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())
