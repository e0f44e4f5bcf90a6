"""The requests that ``bench`` sends: some rows, encoded for each door before the first is sent.

In flow a signature and rows (a file, or the model's sample), out flow prepared bytes. Knows the
protocols as a client does; sends nothing.
"""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from forwardpass.cli.example import example_instance
from forwardpass.cli.output import encode_bytes
from forwardpass.cli.sources import Source, Table, read_body, read_source
from forwardpass.engine.rows import columns_from_instances, columns_from_texts, instances_from_columns
from forwardpass.errors import InvalidInput
from forwardpass.loadtest import http_request
from forwardpass.server.http.tensors import json_from_array
from forwardpass.server.tensors import bytes_from_array
from forwardpass.types import Array, Columns, DType, InputSpec, InputType, Signature, TensorSpec

JSON = {"content-type": "application/json"}


def signature_of(facts: Mapping[str, Any]) -> Signature:
    """The signature that a server's ``GET /models`` tells of a version."""
    inputs = tuple(
        InputSpec(
            _tensor(item),
            InputType(item["type"]),
            required=item["required"],
            minimum=item["minimum"],
            maximum=item["maximum"],
            categories=tuple(item["categories"]),
            max_length=item["max_length"],
            max_pixels=item["max_pixels"],
        )
        for item in facts["inputs"]
    )
    return Signature(inputs, tuple(_tensor(item) for item in facts["outputs"]), facts["batched"])


def _tensor(item: Mapping[str, Any]) -> TensorSpec:
    shape = tuple(None if axis == -1 else axis for axis in item["shape"])
    return TensorSpec(item["name"], DType(item["datatype"]), shape)


# Rows


def read_data(name: str) -> Source:
    """A file as ``predict`` takes it, or ``.jsonl`` with one row per line."""
    if Path(name).suffix.lower() not in (".jsonl", ".ndjson"):
        return read_source(name)
    try:
        return Source(name, [json.loads(line) for line in Path(name).read_text("utf-8").splitlines() if line.strip()])
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{name}: not readable as one JSON value per line: {error}") from None


def sample_source(content: bytes, content_type: str) -> Source:
    """A model's sample, as the server sends it."""
    if content_type.startswith("image/"):
        return Source("sample", [content])
    text = content.decode()
    if content_type.startswith("text/csv"):
        header, *rows = (line for line in csv.reader(io.StringIO(text)) if line)
        return Source("sample", Table(header, rows))
    return Source("sample", [text] if content_type.startswith("text/") else read_body(text, "sample"))


def columns_of(source: Source | None, signature: Signature) -> Columns:
    """Its rows as columns; a made-up row where there is no source. Raises ``InvalidInput``."""
    if source is None:
        return columns_from_instances([example_instance(signature)], signature)
    if isinstance(source.rows, Table):
        columns = columns_from_texts(source.rows.header, source.rows.rows, signature)
    else:
        columns = columns_from_instances(source.rows, signature)
    if signature.batched and not len(next(iter(columns.values()))):
        raise InvalidInput(f"{source.name}: has no rows; bench needs at least one")
    return columns


def in_requests(columns: Columns, signature: Signature, rows: int) -> list[Columns]:
    """``rows`` rows for each request, from the first again where there are not enough; every row is in one."""
    if not signature.batched:
        return [columns]
    count = len(next(iter(columns.values())))
    starts = range(0, count, rows)
    return [{name: array[(np.arange(rows) + start) % count] for name, array in columns.items()} for start in starts]


# Doors


def prepare(door: str, base: str, path: str, parts: Sequence[Columns], signature: Signature) -> list[Any]:
    """What the door's target sends for each part. ``path`` is ``NAME`` or ``NAME/versions/VERSION``."""
    if door == "local":
        return list(parts)
    if door == "v1":
        url = f"{base}/v1/models/{path}:predict"
        return [http_request(url, _v1(part, signature), JSON) for part in parts]
    if door == "grpc":
        return [_grpc(path, part, signature) for part in parts]
    url = f"{base}/v2/models/{path}/infer"
    if door == "v2-json":
        return [http_request(url, _v2_json(part, signature), JSON) for part in parts]
    return [_v2_binary(url, part, signature) for part in parts]


def _v1(columns: Columns, signature: Signature) -> bytes:
    instances = instances_from_columns(columns, signature.batched)
    return orjson.dumps({"instances": instances}, default=encode_bytes)


def _v2_json(columns: Columns, signature: Signature) -> bytes:
    tensors = [
        b'%b,"data":%b}' % (orjson.dumps(_head(spec, columns[spec.name]))[:-1], _data(columns[spec.name]))
        for spec in _given(columns, signature)
    ]
    return b'{"inputs":[%b]}' % b",".join(tensors)


def _v2_binary(url: str, columns: Columns, signature: Signature) -> bytes:
    given = _given(columns, signature)
    raws = [bytes_from_array(columns[spec.name]) for spec in given]
    inputs = [
        {**_head(spec, columns[spec.name]), "parameters": {"binary_data_size": len(raw)}}
        for spec, raw in zip(given, raws, strict=True)
    ]
    header = orjson.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}})
    headers = {"content-type": "application/octet-stream", "inference-header-content-length": str(len(header))}
    return http_request(url, header + b"".join(raws), headers)


def _head(spec: InputSpec, array: Array) -> dict[str, Any]:
    return {"name": spec.name, "shape": list(array.shape), "datatype": str(spec.tensor.dtype)}


def _data(array: Array) -> bytes:
    """The values as JSON; an image, which is no text, as base64."""
    if array.dtype.kind != "O":
        return json_from_array(array.astype(np.float32) if DType.of(array) is DType.BF16 else array)
    return orjson.dumps([_text(value) for value in array.ravel().tolist()])


def _text(value: Any) -> str:
    if not isinstance(value, bytes):
        return str(value)
    try:
        return value.decode()
    except UnicodeDecodeError:
        return base64.b64encode(value).decode()


def _given(columns: Columns, signature: Signature) -> list[InputSpec]:
    """The inputs that are sent: one that may be left out and is missing is not."""
    return [spec for spec in signature.inputs if spec.required or not _missing(columns[spec.name])]


def _missing(array: Array) -> bool:
    return array.dtype.kind == "f" and bool(np.isnan(array).any())


def _grpc(path: str, columns: Columns, signature: Signature) -> bytes:
    from forwardpass.server.grpc.generated import inference_pb2

    name, _, version = path.partition("/versions/")
    request = inference_pb2.ModelInferRequest(model_name=name, model_version=version)
    for spec in _given(columns, signature):
        array = columns[spec.name]
        request.inputs.add(name=spec.name, datatype=str(spec.tensor.dtype), shape=array.shape)
        request.raw_input_contents.append(bytes_from_array(array))
    return bytes(request.SerializeToString())
