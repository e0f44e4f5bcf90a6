"""Models without an artifact: their outputs are their inputs, given back by a replica in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from forwardpass.config import Limits
from forwardpass.registry import ModelLocation
from forwardpass.scheduler import Batch, Reply, Scheduler
from forwardpass.server.served import ServedModel, State
from forwardpass.types import DType, InputSpec, InputType, Signature, StageTimes, TensorSpec

TIMES = StageTimes(0.0, 0.0, 0.0)
SIGNATURES = {
    "floats": (True, [InputSpec(TensorSpec("x", DType.FP32, (None, 2)))]),
    "numbers": (True, [InputSpec(TensorSpec("x", DType.INT64, (None, 2)))]),
    "texts": (True, [InputSpec(TensorSpec("x", DType.BYTES, (None,)), InputType.TEXT, max_length=100)]),
    "brain": (True, [InputSpec(TensorSpec("x", DType.BF16, (None, None)))]),
    "vector": (False, [InputSpec(TensorSpec("x", DType.FP64, (4,)))]),
    "mixed": (
        True,
        [
            InputSpec(TensorSpec("a", DType.FP16, (None,)), InputType.NUMBER, required=False),
            InputSpec(TensorSpec("b", DType.BOOL, (None, 1))),
            InputSpec(TensorSpec("c", DType.UINT8, (None,)), InputType.NUMBER, minimum=0, maximum=9),
            InputSpec(TensorSpec("d", DType.BYTES, (None,)), InputType.CATEGORY, required=False, categories=("u", "v")),
        ],
    ),
}


class Twin:
    """A replica: answers a batch with its own rows, when the turn of the loop ends."""

    def __init__(self, scheduler: Scheduler, loop: Any) -> None:
        self._scheduler, self._loop = scheduler, loop

    def run(self, batch: Batch) -> None:
        self._loop.call_soon(lambda: self._scheduler.finished(self, batch, Reply(batch.stack(), {}, TIMES)))


def served(name: str) -> ServedModel:
    """A ready model that has no queue yet."""
    batched, inputs = SIGNATURES[name]
    model = ServedModel(ModelLocation(name, "1", Path(name)))
    model.signature = Signature(tuple(inputs), tuple(spec.tensor for spec in inputs), batched)
    model.state, model.limits = State.READY, Limits(max_batch_size=4)
    return model
