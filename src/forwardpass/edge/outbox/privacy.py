"""What may leave the device, and what of one prediction is put into the outbox by that.

What may not leave is not even put in; what was put in while more was allowed is deleted when the outbox is opened with
less. Knows no file and no network.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import orjson

from forwardpass.edge.outbox.entry import Kind, Needs

if TYPE_CHECKING:
    from forwardpass.edge.prediction import Prediction

UNSURE_BELOW = 0.8  # confidence
MOST_BODY = 512 * 1024  # bytes of JSON: of a record that is larger the answers stay here, of a sample all


class Level(StrEnum):
    """What may leave: each says all that the ones before it say."""

    NOTHING = "nothing"
    OUTPUTS = "outputs"  # records with their answers, no inputs
    UNSURE = "unsure"  # the inputs of rows that the model was not sure of
    ALL = "all"


_ALLOWED = {
    Level.NOTHING: (),
    Level.OUTPUTS: (Needs.OUTPUTS,),
    Level.UNSURE: (Needs.OUTPUTS, Needs.UNSURE),
    Level.ALL: (Needs.OUTPUTS, Needs.UNSURE, Needs.ALL),
}


@dataclass(frozen=True)
class Privacy:
    """What may leave the device.

    ``usage``: whether the counts per minute may; None: unless the level is ``nothing``. A prediction is unsure where
    it is provisional, or its confidence is below ``unsure_below``.
    """

    level: Level = Level.OUTPUTS
    usage: bool | None = None
    unsure_below: float = UNSURE_BELOW

    @property
    def allowed(self) -> tuple[Needs, ...]:
        usage = self.level is not Level.NOTHING if self.usage is None else self.usage
        return ((Needs.USAGE,) if usage else ()) + _ALLOWED[self.level]

    @property
    def escalations(self) -> bool:
        """Whether a row that the device is unsure of may be sent to a model elsewhere."""
        return Needs.UNSURE in self.allowed

    def unsure(self, prediction: Prediction) -> bool:
        confidence = prediction.confidence
        return prediction.provisional or (confidence is not None and confidence < self.unsure_below)

    def entries(self, prediction: Prediction) -> list[tuple[Kind, bytes, float, Needs]]:
        """What to put of a prediction, besides its usage: kind, body, how useful it is, what it needs."""
        made: list[tuple[Kind, bytes, float, Needs]] = []
        needs = Needs.UNSURE if self.unsure(prediction) else Needs.ALL
        if Needs.OUTPUTS in self.allowed:
            record = encode(_record(prediction))
            if len(record) > MOST_BODY:
                record = encode(_record(prediction) | {"answers": None})
            made.append((Kind.RECORD, record, 0.0, Needs.OUTPUTS))
        if needs in self.allowed:
            made.append((Kind.SAMPLE, encode(_sample(prediction)), usefulness(prediction), needs))
        return made


def usefulness(prediction: Prediction) -> float:
    """From 0 to 1: what failed most, what is provisional next, then by how unsure the model was."""
    if prediction.error is not None:
        return 1.0
    if prediction.provisional:
        return 0.99
    return 0.0 if prediction.confidence is None else min(1.0, max(0.0, 1.0 - prediction.confidence))


def _record(prediction: Prediction) -> dict[str, Any]:
    """No text of an error: it may quote the input."""
    return {
        "id": prediction.id,
        "source": prediction.source,
        "model": prediction.model,
        "version": prediction.version,
        "rows": len(prediction.instances),
        "answers": prediction.answers,
        "confidence": prediction.confidence,
        "provisional": prediction.provisional,
        "failed": prediction.error is not None,
        "seconds": prediction.seconds,
    }


def _sample(prediction: Prediction) -> dict[str, Any]:
    """Whole in itself: the record may be dropped before anyone looks."""
    return _record(prediction) | {"error": prediction.error, "instances": list(prediction.instances)}


def encode(body: dict[str, Any]) -> bytes:
    """JSON; bytes become ``{"b64": …}``, NaN becomes null. Raises ``TypeError`` for what JSON cannot hold."""
    return orjson.dumps(body, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes | bytearray | memoryview):
        return {"b64": base64.b64encode(value).decode()}
    if hasattr(value, "tolist"):
        return value.tolist()  # arrays that orjson does not take: of objects, not contiguous
    raise TypeError(f"a {type(value).__name__} cannot be put into an outbox")
