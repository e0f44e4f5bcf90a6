"""The plan of a job: its parts, and the facts it was made from, which must not change before it ends.

The same files, model and options give the same plan, whatever the machine and the number of workers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from forwardpass.errors import InvalidInput
from forwardpass.jobs.dataset import Found
from forwardpass.jobs.formats.base import Piece
from forwardpass.jobs.job import Job
from forwardpass.jobs.ledger import Part
from forwardpass.jobs.storage import create_storage

SHOWN = 3  # changes that a refusal names


def plan_parts(found: Found, part_rows: int) -> list[Part]:
    """Parts of about ``part_rows`` rows, in the order of the input."""
    pieces = found.reader.scan_all(create_storage(found.entries[0].name), found.entries, part_rows)
    return [Part(number, together) for number, together in enumerate(group(pieces, part_rows))]


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
    """What the result depends on, by the name that a refusal gives it. ``model`` holds its files' digests."""
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
    inputs = {f"input {entry.name}": f"{entry.size} bytes, {entry.version}" for entry in found.entries}
    return {**files, **inputs, **options}


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
