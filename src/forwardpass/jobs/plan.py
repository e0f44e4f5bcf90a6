"""The plan of a job: its parts, and the facts it was made from, which must not change before it ends.

The same files, model and options give the same plan, whatever the machine and the number of workers.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from itertools import groupby

import msgspec

from forwardpass.errors import InvalidInput
from forwardpass.jobs.dataset import Found
from forwardpass.jobs.formats.base import Piece
from forwardpass.jobs.formats.groups import GroupFormat
from forwardpass.jobs.job import Job
from forwardpass.jobs.ledger import Part
from forwardpass.jobs.storage import create_storage

SHOWN = 3  # changes that a refusal names
UNREADABLE, MENDED = ", unreadable", ", mended"  # marks of a file's fact
_INPUT = "input "


def plan_parts(found: Found, part_rows: int, apart: Container[str] = ()) -> list[Part]:
    """Parts of about ``part_rows`` rows, in the order of the input. Each file ``apart`` is one part, however large."""
    return [Part(number, together) for number, together in enumerate(_together(found, part_rows, apart))]


def _together(found: Found, part_rows: int, apart: Container[str]) -> Iterator[tuple[Piece, ...]]:
    storage = create_storage(found.entries[0].name)
    for alone, entries in groupby(found.entries, lambda entry: entry.name in apart):
        if alone:
            yield from (tuple(found.reader.scan(storage, entry, part_rows)) for entry in entries)
        else:
            yield from group(found.reader.scan_all(storage, list(entries), part_rows), part_rows)


def group(pieces: Sequence[Piece], part_rows: int) -> Iterator[tuple[Piece, ...]]:
    """Small pieces together, while they are no more than a part."""
    together: list[Piece] = []
    rows = 0
    for piece in pieces:
        if together and rows + piece.rows > part_rows:
            yield tuple(together)
            together, rows = [], 0
        together.append(piece)
        rows += piece.rows
    if together:
        yield tuple(together)


def create_facts(job: Job, found: Found, model: Mapping[str, str]) -> dict[str, str]:
    """What the result depends on, by the name that a refusal gives it. ``model`` holds its files' digests.

    A file that cannot be read has a mark: it has a part of its own, fails with that, and may be mended.
    """
    options = {
        "--where": job.where,
        "--keep": msgspec.json.encode(job.keep).decode(),
        "--map": msgspec.json.encode(job.map).decode(),
        "--format": found.facts.format,
        "--threads": str(job.threads),
        "--batch-rows": str(job.batch_rows),
        "--part-rows": str(job.part_rows),
    }
    files = {f"model file {name}": digest for name, digest in model.items()}
    broken = unreadable(found)
    inputs = {
        f"{_INPUT}{entry.name}": f"{entry.size} bytes, {entry.version}{UNREADABLE if entry.name in broken else ''}"
        for entry in found.entries
    }
    return {**files, **inputs, **options}


def unreadable(found: Found) -> Mapping[str, str]:
    """The files that cannot be read, and why; of formats that tell it before their rows are read."""
    return found.reader.unreadable if isinstance(found.reader, GroupFormat) else {}


def with_mended(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """The facts of now; files that were unreadable before, and are not now, have a mark that stays."""
    mended = _marked(before, UNREADABLE, MENDED) & now.keys() - _marked(now, UNREADABLE)
    return {**now, **{name: f"{now[name]}{MENDED}" for name in mended}}


def newly_mended(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """The facts of now that may differ from those before: of files that were unreadable."""
    return {name: now[name] for name in _marked(before, UNREADABLE) & now.keys() if now[name] != before[name]}


def files_apart(facts: Mapping[str, str]) -> set[str]:
    """The files that are one part each."""
    return {name.removeprefix(_INPUT) for name in _marked(facts, UNREADABLE, MENDED)}


def _marked(facts: Mapping[str, str], *marks: str) -> set[str]:
    return {name for name, value in facts.items() if name.startswith(_INPUT) and value.endswith(marks)}


def require_same(before: Mapping[str, str], now: Mapping[str, str], where: str) -> None:
    """Raises ``InvalidInput`` naming what has changed since a job was planned."""
    changed = [
        f"{name} {'is new' if name not in before else 'is gone' if name not in now else 'has changed'}"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]
    if changed:
        more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
        raise InvalidInput(
            f"{where} was begun from something else: {', '.join(changed[:SHOWN])}{more}. Undo the change, or choose "
            "another output"
        )
