"""A request that a model answers: the sample kept beside the artifact, else one made up.

The same rows as V1 instances and as V2 tensors, for the OpenAPI document; the file as it is, for
the page. Reads that one file, and knows no routes.
"""

from __future__ import annotations

import base64
import csv
import io
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from forwardpass.engine.rows import columns_from_instances, columns_from_texts, instances_from_columns
from forwardpass.errors import ForwardpassError, NotFound
from forwardpass.server.served import ServedModel
from forwardpass.types import Array, Columns, DType, InputSpec, InputType

MOST_BYTES = 16 * 1024  # of a sample that is shown as an example
MOST_VALUES = 1024  # of a tensor that is made up
_PIXEL = (  # a PNG of one white pixel
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mP4DwABAQEAG7buVgAAAABJRU5ErkJggg=="
)


@dataclass(frozen=True)
class SampleBody:
    """The bytes of a sample, and what they are."""

    content: bytes
    content_type: str


@dataclass(frozen=True)
class Example:
    """The same rows for both protocols."""

    instances: list[Any]
    tensors: list[dict[str, Any]]


def read_sample(served: ServedModel) -> SampleBody:
    """The sample file. Raises ``NotFound`` where there is none."""
    sample = served.info.sample
    if sample is None or not Path(sample.file).is_file():
        raise NotFound(f"model {served.name!r} has no sample; put a sample.json, .png, .jpg, .txt or .csv beside it")
    return SampleBody(Path(sample.file).read_bytes(), sample.content_type)


def read_samples(models: Iterable[ServedModel]) -> dict[ServedModel, SampleBody]:
    """The samples of those models that have one."""
    found = (served for served in models if served.info.sample and Path(served.info.sample.file).is_file())
    return {served: read_sample(served) for served in found}


def example_of(served: ServedModel, sample: SampleBody | None) -> Example | None:
    """Rows that the model answers; ``None`` where none short enough can be made up."""
    if sample is not None and len(sample.content) <= MOST_BYTES:
        try:
            return _example(_columns(served, sample), served)
        except (ForwardpassError, ValueError, KeyError, TypeError, csv.Error):
            pass  # the file is the user's own, and shown as it is; a broken one is no example
    values = {spec.name: _make_up(spec, served.signature.batched) for spec in served.signature.inputs}
    if not values or any(value is None for value in values.values()):
        return None
    return _example(columns_from_instances([values], served.signature), served)


def _columns(served: ServedModel, sample: SampleBody) -> Columns:
    kind, content, signature = sample.content_type, sample.content, served.signature
    if kind.startswith("image/"):
        return columns_from_instances([content], signature)
    if kind == "text/plain":
        return columns_from_instances([content.decode()], signature)
    if kind == "text/csv":
        header, *rows = (line for line in csv.reader(io.StringIO(content.decode()), strict=True) if line)
        return columns_from_texts(header, rows, signature)
    return columns_from_instances(orjson.loads(content)["instances"], signature)


def _example(columns: Columns, served: ServedModel) -> Example:
    tensors = [
        {
            "name": spec.name,
            "shape": list(columns[spec.name].shape),
            "datatype": spec.tensor.dtype,
            "data": _plain(columns[spec.name].reshape(-1), in_json=False),
        }
        for spec in served.signature.inputs
        if spec.required or not _missing(columns[spec.name])
    ]
    instances = instances_from_columns(columns, served.signature.batched)
    return Example([_plain(instance, in_json=True) for instance in instances], tensors)


def _missing(column: Array) -> bool:
    return column.dtype.kind == "f" and bool(np.isnan(column).any())


def _plain(value: Any, *, in_json: bool) -> Any:
    """JSON's own values; bytes as base64, ``in_json`` (V1) inside ``{"b64": …}``; NaN is ``null``."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, dict):
        return {name: _plain(item, in_json=in_json) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, in_json=in_json) for item in value]
    if isinstance(value, bytes):
        text = base64.b64encode(value).decode()
        return {"b64": text} if in_json else text
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _make_up(spec: InputSpec, batched: bool) -> Any:
    if spec.type is InputType.IMAGE:
        return {"b64": _PIXEL}
    if spec.type is InputType.TEXT:
        return "some text"
    if spec.type is InputType.CATEGORY:
        return spec.categories[0] if spec.categories else "any"
    shape = [1 if axis is None else axis for axis in spec.tensor.shape[batched or spec.type is InputType.NUMBER :]]
    if math.prod(shape) > MOST_VALUES:
        return None
    return np.full(shape, _number(spec), object).tolist()


def _number(spec: InputSpec) -> Any:
    if spec.tensor.dtype is DType.BYTES:
        return "any"
    if spec.tensor.dtype is DType.BOOL:
        return False
    if spec.minimum is not None and spec.maximum is not None:
        number = (spec.minimum + spec.maximum) / 2
    else:
        number = max(spec.minimum or 0.0, 0.0) if spec.maximum is None else min(spec.maximum, 0.0)
    return number if spec.tensor.dtype.is_float else math.floor(number)
