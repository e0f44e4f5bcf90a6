"""The Open Inference Protocol (V2) for one model: infer bodies in, infer answers out.

JSON and raw bytes both ways, in any mixture. Models whose inputs are all floating point decode
through a typed decoder, which checks every value at the speed of C; whatever it refuses is looked
at again by the general one, whose messages say what is wrong.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import orjson

from forwardpass.errors import ForwardpassError, InvalidInput, nearest
from forwardpass.server.http.exchange import JSON, Exchange, Route
from forwardpass.server.http.tensors import (
    array_from_bytes,
    array_from_json,
    bytes_from_array,
    json_from_array,
    shorten,
    wrong_count,
)
from forwardpass.server.served import ServedModel
from forwardpass.types import Array, Columns, DType, InputSpec

HEADER_LENGTH = b"inference-header-content-length"
Parameters = dict[str, Any]


class TensorBody(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: Any = None
    parameters: Parameters | None = None


class FloatTensorBody(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: list[float] | None = None
    parameters: Parameters | None = None


class OutputBody(msgspec.Struct):
    name: str
    parameters: Parameters | None = None


class InferBody(msgspec.Struct):
    inputs: list[TensorBody]
    id: str = ""
    outputs: list[OutputBody] | None = None
    parameters: Parameters | None = None


class FloatInferBody(msgspec.Struct):
    inputs: list[FloatTensorBody]
    id: str = ""
    outputs: list[OutputBody] | None = None
    parameters: Parameters | None = None


AnyTensor = TensorBody | FloatTensorBody
AnyBody = InferBody | FloatInferBody
_general = msgspec.json.Decoder(InferBody)
_floats = msgspec.json.Decoder(FloatInferBody)


class V2Route(Route):
    """POST /v2/models/NAME[/versions/VERSION]/infer."""

    def __init__(self, served: ServedModel) -> None:
        self.served = served
        signature = served.signature
        self._batched = signature.batched
        self._inputs = {spec.name: spec for spec in signature.inputs}
        self._outputs = {spec.name for spec in signature.outputs}
        self._all_float = bool(signature.inputs) and all(spec.tensor.dtype.is_float for spec in signature.inputs)
        self._ragged = any(None in spec.tensor.shape[1:] for spec in signature.inputs)
        self._prefix = b'{"model_name":%b,"model_version":%b' % (
            orjson.dumps(served.name),
            orjson.dumps(served.version),
        )
        self._heads: dict[Any, tuple[str, str]] = {}

    # Decoding

    def decode(self, exchange: Exchange) -> None:
        length = exchange.headers.get(HEADER_LENGTH)
        raw = memoryview(exchange.body)
        if length is None:
            body, tail = self._parse(raw), raw[len(raw) :]
        else:
            split = _header_length(length, len(raw))
            body, tail = self._parse(raw[:split]), raw[split:]
        exchange.id = body.id
        exchange.columns = self._columns(body.inputs, tail)
        self._rows(exchange)
        exchange.deadline = exchange.arrived + self.served.limits.timeout
        if body.parameters is not None:
            self._parameters(exchange, body.parameters)
        if body.outputs is not None:
            exchange.wanted = {output.name: self._binary(output) for output in body.outputs}

    def _parse(self, raw: memoryview) -> AnyBody:
        if self._all_float:
            try:
                floats: FloatInferBody = _floats.decode(raw)
            except msgspec.DecodeError:
                pass  # the general decoder takes more (nested data), or says what is wrong
            else:
                return floats
        try:
            general: InferBody = _general.decode(raw)
        except msgspec.DecodeError as error:
            raise InvalidInput(f"the body is not a V2 inference request: {error}") from None
        except UnicodeDecodeError:
            raise InvalidInput("the body is not valid UTF-8") from None
        return general

    def _columns(self, tensors: list[Any], tail: memoryview) -> Columns:
        columns: Columns = {}
        place = 0
        for tensor in tensors:
            spec = self._inputs.get(tensor.name)
            if spec is None:
                raise InvalidInput(f"unknown input {tensor.name!r}.{nearest(tensor.name, self._inputs)}")
            shape = self._shape(spec, tensor)
            if tensor.data is None and tensor.parameters is not None:
                size = _binary_size(tensor)
                columns[tensor.name] = array_from_bytes(
                    tensor.name, spec.tensor.dtype, shape, tail[place : place + size]
                )
                place += size
            elif type(tensor) is FloatTensorBody and tensor.data is not None:
                columns[tensor.name] = _floats_array(spec, shape, tensor.data)
            else:
                columns[tensor.name] = array_from_json(tensor.name, spec.tensor.dtype, shape, tensor.data)
        if place != len(tail):
            raise InvalidInput(
                f"{len(tail)} raw bytes follow the header, the inputs' `binary_data_size` add to {place}"
            )
        if len(columns) != len(self._inputs) or len(tensors) != len(self._inputs):
            self._complete(columns, tensors)
        return columns

    def _shape(self, spec: InputSpec, tensor: AnyTensor) -> tuple[int, ...]:
        wanted, given = spec.tensor.shape, tensor.shape
        if tensor.datatype != spec.tensor.dtype:
            raise InvalidInput(f"input {spec.name!r} is {spec.tensor.dtype}, got datatype {shorten(tensor.datatype)}")
        if len(given) == len(wanted):
            for size, axis in zip(given, wanted, strict=True):
                if size < 0 or (axis is not None and size != axis):
                    break
            else:
                return tuple(given)
        raise InvalidInput(f"input {spec.name!r} has shape {show_shape(wanted)}, got {given}")

    def _complete(self, columns: Columns, tensors: list[Any]) -> None:
        """Fill in what may be left out; refuse what is missing or given twice."""
        if len(columns) != len(tensors):
            names = [tensor.name for tensor in tensors]
            twice = next(name for name in names if names.count(name) > 1)
            raise InvalidInput(f"input {twice!r} is given twice")
        missing = [spec for name, spec in self._inputs.items() if name not in columns]
        needed = [spec.name for spec in missing if spec.required]
        if needed or not columns:
            raise InvalidInput(f"missing input {needed[0] if needed else next(iter(self._inputs))!r}")
        rows = len(next(iter(columns.values())))
        for spec in missing:
            empty = "" if spec.tensor.dtype is DType.BYTES else math.nan
            columns[spec.name] = np.full(rows, empty, spec.tensor.dtype.numpy)

    def _rows(self, exchange: Exchange) -> None:
        columns = exchange.columns
        nbytes = 0
        rows = 1
        for index, (name, array) in enumerate(columns.items()):
            nbytes += array.nbytes if array.dtype.kind != "O" else sum(map(len, array.ravel().tolist()))
            if self._batched:
                if index and len(array) != rows:
                    first = next(iter(columns))
                    raise InvalidInput(
                        f"input {name!r} has {len(array)} rows, {first!r} has {rows}; they must be equal"
                    )
                rows = len(array)
        exchange.rows = rows
        exchange.nbytes = nbytes
        if self._ragged:
            exchange.key = tuple(columns[name].shape[1:] for name in self._inputs)

    def _parameters(self, exchange: Exchange, parameters: Parameters) -> None:
        timeout = parameters.get("timeout")
        if timeout is not None:
            if not isinstance(timeout, int | float) or isinstance(timeout, bool) or timeout <= 0:
                raise InvalidInput(f"parameter `timeout` must be microseconds above 0, got {shorten(timeout)}")
            exchange.deadline = min(exchange.deadline, exchange.arrived + timeout / 1e6)
        exchange.all_binary = parameters.get("binary_data_output") is True

    def _binary(self, output: OutputBody) -> bool:
        if output.name not in self._outputs:
            raise InvalidInput(f"unknown output {output.name!r}.{nearest(output.name, self._outputs)}")
        return bool(output.parameters and output.parameters.get("binary_data") is True)

    # Encoding

    def encode(self, exchange: Exchange, outputs: Columns) -> tuple[bytes, bytes]:
        wanted = exchange.wanted
        tails: list[bytes] = []
        pieces: list[bytes] = [self._prefix]
        if exchange.id:
            pieces.append(b',"id":%b' % orjson.dumps(exchange.id))
        pieces.append(b',"outputs":[')
        for name in outputs if wanted is None else wanted:
            array = outputs[name]
            head = self._head(name, array)
            if exchange.all_binary if wanted is None else (wanted[name] or exchange.all_binary):
                raw = bytes_from_array(array)
                tails.append(raw)
                pieces.append(b'%b"parameters":{"binary_data_size":%d}},' % (head, len(raw)))
            else:
                pieces.append(b'%b"data":%b},' % (head, json_from_array(array)))
        header = b"".join(pieces)
        header = (header[:-1] if header.endswith(b",") else header) + b"]}"
        if not tails:
            return JSON, header
        kind = b"content-type: application/octet-stream\r\ninference-header-content-length: %d\r\n" % len(header)
        return kind, b"".join((header, *tails))

    def _head(self, name: str, array: Array) -> bytes:
        key = (name, array.dtype, array.shape[1:])
        cached = self._heads.get(key)
        if cached is None:
            row = "".join(f",{size}" for size in array.shape[1:])
            cached = (f'{{"name":{orjson.dumps(name).decode()},"datatype":"{DType.of(array)}","shape":[', f"{row}],")
            if len(self._heads) < 256:  # outputs whose row shape follows the input could fill memory
                self._heads[key] = cached
        first = str(len(array)) if array.ndim else ""
        return f"{cached[0]}{first}{cached[1]}".encode()


def show_shape(shape: tuple[int | None, ...]) -> list[int]:
    """A shape in messages and metadata: free axes are -1."""
    return [-1 if axis is None else axis for axis in shape]


def _floats_array(spec: InputSpec, shape: tuple[int, ...], data: list[float]) -> Array:
    try:
        array = np.array(data, dtype=spec.tensor.dtype.numpy)
        return array.reshape(shape)
    except (ValueError, ForwardpassError):
        raise wrong_count(spec.name, shape, len(data)) from None


def _header_length(value: bytes, size: int) -> int:
    try:
        length = int(value)
    except ValueError:
        length = -1
    if not 0 <= length <= size:
        text = value.decode("latin-1")
        raise InvalidInput(f"Inference-Header-Content-Length is {text!r}; the body has {size} bytes")
    return length


def _binary_size(tensor: AnyTensor) -> int:
    size = (tensor.parameters or {}).get("binary_data_size")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise InvalidInput(f"input {tensor.name!r} has neither `data` nor a `binary_data_size`")
    return size
