"""The client's side of the Open Inference Protocol: columns to an infer body, an answer to columns or an error.

Tensors travel as raw bytes after the JSON header (the binary extension); an answer in JSON is read too. What comes back
is checked against what the model is known to give, so that no row gets another's answer. Opens no connection.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import numpy as np
import orjson

from forwardpass.errors import (
    BackendFailed,
    ForwardpassError,
    InvalidInput,
    NotReady,
    Overloaded,
    QuotaExceeded,
    TimedOut,
    TooLarge,
)
from forwardpass.gateway.connection import Answer
from forwardpass.server.http.tensors import array_from_json
from forwardpass.server.tensors import array_from_bytes, bytes_from_array
from forwardpass.types import Array, Columns, DType, TensorSpec

Json = dict[str, Any]
SPLIT = "inference-header-content-length"
LONGEST = 300  # characters of a server's own words
_MEANS: dict[int, type[ForwardpassError]] = {400: InvalidInput, 408: TimedOut, 413: TooLarge, 422: InvalidInput}
_MEANS |= {404: NotReady, 501: BackendFailed, 504: TimedOut}


def model_path(name: str, version: str | None) -> str:
    """The path of a model, to which the protocol's words are added."""
    path = f"/v2/models/{quote(name, safe='')}"
    return path if version is None else f"{path}/versions/{quote(version, safe='')}"


def infer_body(columns: Columns, outputs: Sequence[str], timeout: float) -> tuple[list[tuple[str, str]], bytes]:
    """Headers and body that ask for these outputs within so many seconds. Raises ``InvalidInput``."""
    inputs, raws = [], []
    for name, array in columns.items():
        try:
            raw = bytes_from_array(array)
        except UnicodeEncodeError as error:
            raise InvalidInput(f"input {name!r} holds a text that is not valid Unicode: {error.reason}") from None
        size = {"binary_data_size": len(raw)}
        inputs.append({"name": name, "shape": list(array.shape), "datatype": DType.of(array), "parameters": size})
        raws.append(raw)
    wanted = [{"name": name, "parameters": {"binary_data": True}} for name in outputs]
    parameters = {"timeout": max(1, round(timeout * 1e6)), "binary_data_output": True}
    header = orjson.dumps({"inputs": inputs, "outputs": wanted, "parameters": parameters})
    kind = [("content-type", "application/octet-stream"), (SPLIT, str(len(header)))]
    return kind, b"".join((header, *raws))


def columns_of(answer: Answer, outputs: Sequence[TensorSpec], rows: int | None) -> Columns:
    """The outputs of a good answer; ``rows`` is how many each must have, None where they have none.

    Raises ``BackendFailed`` where it is not what was asked for.
    """
    try:
        return _columns(answer, {spec.name: spec for spec in outputs}, rows)
    except (ValueError, KeyError, TypeError, AttributeError, InvalidInput) as error:
        said = error.message if isinstance(error, InvalidInput) else str(error) or type(error).__name__
        raise BackendFailed(f"it answered what is no answer to an inference request: {_short(said)}") from None


def error_of(answer: Answer) -> ForwardpassError:
    """What an answer that is not good means here, in the server's own words where it has any."""
    text = _said(answer)
    if answer.status == 429:
        return QuotaExceeded(text, retry_after(answer) or 1.0)
    if answer.status == 503:
        seconds = retry_after(answer)
        return NotReady(text) if seconds is None else Overloaded(text, seconds)
    return _MEANS.get(answer.status, BackendFailed)(text)


def is_safe(answer: Answer) -> bool:
    """Whether an answer that is not good says that nothing was done, so that another server may be asked."""
    return answer.status == 404 or (answer.status == 503 and retry_after(answer) is not None)


def retry_after(answer: Answer) -> float | None:
    """Seconds after which the server asks to come again; None where it does not say."""
    text = answer.headers.get("retry-after", "").strip()
    return float(text) if text.isascii() and text.isdigit() and len(text) < 7 else None


def json_of(answer: Answer) -> Json | None:
    """The JSON object of an answer, or None where it is none."""
    try:
        said = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return None
    return said if isinstance(said, dict) else None


def _said(answer: Answer) -> str:
    """The words of an error; the body's own where it is not JSON."""
    said = json_of(answer)
    text = said.get("error") if said is not None else None
    if isinstance(text, str) and text:
        return text if len(text) <= 4 * LONGEST else _short(text)
    return f"it answered {answer.status}: {_short(answer.body[:LONGEST].decode('utf-8', 'replace'))}"


def _columns(answer: Answer, specs: dict[str, TensorSpec], rows: int | None) -> Columns:
    split = int(answer.headers.get(SPLIT, len(answer.body)))
    if not 0 <= split <= len(answer.body):
        raise ValueError(f"its header has {split} of {len(answer.body)} bytes")
    head = orjson.loads(answer.body[:split])
    tail = memoryview(answer.body)[split:]
    columns: Columns = {}
    for entry in head["outputs"]:
        name, shape = entry["name"], tuple(int(axis) for axis in entry["shape"])
        size = (entry.get("parameters") or {}).get("binary_data_size")
        raw, tail = (tail[:size], tail[size:]) if size is not None else (None, tail)
        if name in specs:
            columns[name] = _array(specs[name], entry, shape, raw)
            _check(specs[name], columns[name], rows)
    if missing := [name for name in specs if name not in columns]:
        raise ValueError(f"output {missing[0]!r} is missing")
    return {name: columns[name] for name in specs}


def _array(spec: TensorSpec, entry: Json, shape: tuple[int, ...], raw: memoryview | None) -> Array:
    if entry["datatype"] != spec.dtype:
        raise ValueError(f"output {spec.name!r} is {entry['datatype']}, and was {spec.dtype}")
    if raw is None:
        data = entry["data"]
        if spec.dtype.is_float:
            data = [math.nan if value is None else value for value in data]  # JSON has no NaN
        return array_from_json(spec.name, spec.dtype, shape, data)
    array = array_from_bytes(spec.name, spec.dtype, shape, raw)
    return _texts(array) if spec.dtype is DType.BYTES else array


def _texts(array: Array) -> Array:
    """Texts where all are: raw bytes do not say which of the two an output holds."""
    texts = np.empty(array.shape, object)
    try:
        texts.reshape(-1)[:] = [value.decode() for value in array.reshape(-1)]
    except UnicodeDecodeError:
        return array
    return texts


def _check(spec: TensorSpec, array: Array, rows: int | None) -> None:
    """Raises ``ValueError`` where it has not the model's shape, or not one row for each that was asked about."""
    shape = array.shape
    fits = len(shape) == len(spec.shape)
    if not fits or any(axis is not None and axis != size for axis, size in zip(spec.shape, shape, strict=True)):
        raise ValueError(f"output {spec.name!r} has shape {list(shape)}")
    if rows is not None and shape[0] != rows:
        raise ValueError(f"output {spec.name!r} has {shape[0]} rows, asked about {rows}")


def _short(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= LONGEST else words[: LONGEST - 1] + "…"
