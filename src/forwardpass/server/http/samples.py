"""A request that a model answers: the sample kept beside the artifact, else one made up.

The same rows as V1 instances and as V2 tensors, for the OpenAPI document; the file as it is, for
the page. Reads that one file, and knows no routes.
"""

from __future__ import annotations

import base64
import csv
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from forwardpass.engine.rows import instances_from_columns
from forwardpass.engine.sample import made_up_columns, sample_columns
from forwardpass.errors import ForwardpassError, NotFound
from forwardpass.server.served import ServedModel
from forwardpass.types import Array, Columns

MOST_BYTES = 16 * 1024  # of a sample that is shown as an example


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
            columns = sample_columns(sample.content, sample.content_type, served.signature)
            return _example(columns, served)
        except (ForwardpassError, ValueError, KeyError, TypeError, csv.Error):
            pass  # the file is the user's own, and shown as it is; a broken one is no example
    made_up = made_up_columns(served.signature)
    return None if made_up is None else _example(made_up, served)


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
