"""Golden rows: a dozen inputs of a model with the answers that it gave where it was bundled.

A device answers them before it uses a bundle: the same words and whole numbers, floats within what another
processor may round (a thousandth of the value, or 0.0001). Kept as the bodies of V1, so that they can be sent
to any server. Knows no engine: whoever asks hands in what predicts.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from forwardpass.errors import ForwardpassError, InvalidModel

RELATIVE, ABSOLUTE = 1e-3, 1e-4
_DIGITS = 6  # of floats, as kept: what lies behind them depends on the processor


@dataclass(frozen=True)
class Golden:
    """``instances`` are rows as V1 instances, ``answers`` the V1 prediction of each, of the model of this name."""

    model: str
    instances: list[Any]
    answers: list[Any]


def encode_golden(golden: Golden) -> bytes:
    """The bytes of its file: a line for each instance and each prediction."""
    return b'{"model":%b,\n"instances":[\n%b\n],\n"predictions":[\n%b\n]}\n' % (
        msgspec.json.encode(golden.model),
        b",\n".join(msgspec.json.encode(plain(item), order="sorted") for item in golden.instances),
        b",\n".join(msgspec.json.encode(_rounded(plain(item)), order="sorted") for item in golden.answers),
    )


def read_golden(file: Path) -> Golden:
    """Golden rows of an unpacked bundle. Raises ``InvalidModel``."""
    try:
        return decode_golden(file.read_bytes(), file.name)
    except OSError as reason:
        raise InvalidModel(f"{file.name}: the golden rows cannot be read: {reason.strerror}") from None


def decode_golden(data: bytes, name: str) -> Golden:
    """Golden rows from the bytes of the file of that name. Raises ``InvalidModel``."""
    try:
        read = msgspec.json.decode(data, type=dict[str, Any])
        golden = msgspec.convert(
            {"model": read.get("model"), "instances": read.get("instances"), "answers": read.get("predictions")}, Golden
        )
    except (msgspec.DecodeError, UnicodeDecodeError) as reason:
        raise InvalidModel(f"{name}: are no golden rows: {reason}") from None
    if len(golden.instances) != len(golden.answers):
        raise InvalidModel(f"{name}: {len(golden.instances)} golden rows with {len(golden.answers)} answers")
    return golden


def check(golden: Golden, predict: Callable[[list[Any]], list[Any]]) -> list[str]:
    """What differs where each row is asked about by itself; nothing where the model answers as it did.

    ``predict`` gives V1 predictions for V1 instances; what it raises of our errors counts as a difference.
    """
    found: list[str] = []
    for row, (instance, wanted) in enumerate(zip(golden.instances, golden.answers, strict=True)):
        try:
            answers = predict([instance])
        except ForwardpassError as error:
            found.append(f"row {row}: failed: {error.message}")
            continue
        found += _row(row, wanted, answers[0]) if len(answers) == 1 else [f"row {row}: {len(answers)} answers"]
    return found


def differences(golden: Golden, answers: Sequence[Any]) -> list[str]:
    """What differs from answers that were asked for elsewhere, one per row."""
    if len(answers) != len(golden.answers):
        return [f"{len(answers)} answers for {len(golden.answers)} golden rows"]
    pairs = enumerate(zip(golden.answers, answers, strict=True))
    return [text for row, (wanted, given) in pairs for text in _row(row, wanted, given)]


def plain(value: Any) -> Any:
    """A value as JSON can say it: bytes as ``{"b64": …}``, what is no finite number as null."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value


def _row(row: int, wanted: Any, given: Any) -> list[str]:
    """The first difference of a row, if any."""
    different = _difference(wanted, plain(given), f"row {row}")
    return [different] if different else []


def _difference(wanted: Any, given: Any, where: str) -> str:
    if isinstance(wanted, dict) and isinstance(given, dict) and wanted.keys() == given.keys():
        pairs = ((f"{where}, {key}", wanted[key], given[key]) for key in wanted)
    elif isinstance(wanted, list) and isinstance(given, list) and len(wanted) == len(given):
        pairs = ((f"{where}[{at}]", *pair) for at, pair in enumerate(zip(wanted, given, strict=True)))
    elif _same(wanted, given):
        return ""
    else:
        return f"{where}: {_short(given)} instead of {_short(wanted)}"
    return next((text for place, left, right in pairs if (text := _difference(left, right, place))), "")


def _same(wanted: Any, given: Any) -> bool:
    kinds = {type(wanted), type(given)}
    if float in kinds and kinds <= {int, float}:
        return math.isclose(wanted, given, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
    return len(kinds) == 1 and bool(wanted == given)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
