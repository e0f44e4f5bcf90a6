"""How many rows are read, run and committed at once, unless the user says: from the model's signature alone.

Nothing is measured here: how rows are cut decides the last bits of the answers, and a job that is
resumed, or run again with more workers, must give the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from forwardpass.scheduler.lengths import ragged_inputs
from forwardpass.types import InputType, Signature

IMAGES, TEXTS = 8, 16  # rows of a batch: more is no faster, and leaves the processor's caches
ELEMENTS = 2**20  # of a batch of tensors
MOST_ROWS = 4096  # of a batch: more saves nothing, and a part's rows should be many batches
WINDOW = 64  # batches of ragged rows that are read at once, and sorted by length
PART = 64  # batches of a part
LEAST_PART = 1024  # rows


@dataclass(frozen=True, slots=True)
class Sizes:
    """Rows of a batch, rows that are read at once (a window), and rows of a part."""

    batch: int
    window: int
    part: int


def create_sizes(signature: Signature, batch_rows: int | None, part_rows: int | None) -> Sizes:
    """The sizes for a model; what the user says goes first."""
    batch = batch_rows or _batch(signature)
    window = batch * WINDOW if ragged_inputs(signature) else batch
    return Sizes(batch, window, part_rows or max(LEAST_PART, window, batch * PART))


def _batch(signature: Signature) -> int:
    if not signature.batched:
        return 1
    types = {spec.type for spec in signature.inputs}
    if InputType.IMAGE in types:
        return IMAGES
    if ragged_inputs(signature):
        return TEXTS
    elements = sum(prod(axis or 1 for axis in spec.tensor.shape[1:]) for spec in signature.inputs)
    fitting = max(1, min(MOST_ROWS, ELEMENTS // max(1, elements)))
    return 1 << (fitting.bit_length() - 1)
