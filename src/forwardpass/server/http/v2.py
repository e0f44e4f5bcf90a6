"""The Open Inference Protocol (V2) for one model: infer bodies in, infer answers out.

JSON and raw bytes both ways, in any mixture. Models whose inputs are all floating point decode
through a typed decoder, which checks every value at the speed of C; whatever it refuses is looked
at again by the general one, whose messages say what is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from struct import Struct
from typing import Any

import msgspec
import numpy as np
import orjson

from forwardpass.engine.column import short
from forwardpass.errors import InvalidInput, nearest
from forwardpass.server.http.exchange import JSON, Exchange, Route
from forwardpass.server.http.tensors import (
    array_from_bytes,
    array_from_json,
    bytes_from_array,
    json_from_array,
    wrong_count,
)
from forwardpass.server.served import ServedModel
from forwardpass.types import Array, Columns, DType, InputSpec

MAX_HEADER = 2048  # bytes of a JSON header that is remembered
MAX_HEADERS = 512
PACKED_UP_TO = 512  # floats
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


@dataclass(frozen=True, slots=True)
class _Input:
    """What of an input is looked at for every request."""

    spec: InputSpec
    dtype: str
    numpy: np.dtype[Any]
    row: list[int] | None  # the shape of one row, where it has no free axis
    packer: Callable[[int], Struct] | None


@dataclass(frozen=True, slots=True)
class _Layout:
    """A JSON header before raw bytes, understood: nothing in it but where each tensor lies."""

    tensors: tuple[tuple[str, np.dtype[Any], tuple[int, ...], int], ...]  # name, type, shape, offset
    size: int
    rows: int
    key: Any
    binary: dict[str, bool] | None


class V2Route(Route):
    """POST /v2/models/NAME[/versions/VERSION]/infer."""

    def __init__(self, served: ServedModel) -> None:
        self.served = served
        signature = served.signature
        self._batched = signature.batched
        self._inputs = {spec.name: _input(spec) for spec in signature.inputs}
        self._outputs = [spec.name for spec in signature.outputs]
        self._all_float = bool(signature.inputs) and all(spec.tensor.dtype.is_float for spec in signature.inputs)
        self._ragged = any(None in spec.tensor.shape[1:] for spec in signature.inputs)
        names = (orjson.dumps(served.name), orjson.dumps(served.version))
        self._prefix = b'{"model_name":%b,"model_version":%b' % names
        self._layouts: dict[bytes, _Layout] = {}
        self._json_heads: dict[Any, tuple[bytes, bytes]] = {}
        self._json_starts: dict[Any, bytes] = {}
        self._binary_heads: dict[Any, tuple[bytes, bytes]] = {}

    # Decoding

    def decode(self, exchange: Exchange) -> None:
        exchange.deadline = exchange.arrived + self.served.limits.timeout
        split = exchange.head.split
        if split is None or split > len(exchange.body):
            _check_split(exchange)
            self._decode_body(exchange, self._parse(exchange.body), memoryview(b""))
            return
        header = bytes(exchange.body[:split])
        layout = self._layouts.get(header)
        if layout is not None and layout.size == len(exchange.body) - split:
            self._decode_as(exchange, layout, split)
            return
        body = self._parse(header)
        self._decode_body(exchange, body, memoryview(exchange.body)[split:])
        self._learn(header, body, exchange)

    def _decode_body(self, exchange: Exchange, body: AnyBody, tail: memoryview) -> None:
        exchange.id = body.id
        exchange.columns = self._columns(body.inputs, tail)
        self._rows(exchange)
        if body.outputs is not None:
            exchange.binary = {output.name: self._binary(output) for output in body.outputs}
        if body.parameters is not None:
            self._parameters(exchange, body.parameters)

    def _decode_as(self, exchange: Exchange, layout: _Layout, start: int) -> None:
        """The same where the header's bytes were understood before."""
        body = exchange.body
        columns = exchange.columns = {}
        for name, dtype, shape, offset in layout.tensors:
            columns[name] = np.ndarray(shape, dtype, body, start + offset)
        exchange.rows = layout.rows
        exchange.nbytes = layout.size
        exchange.binary = layout.binary
        if layout.key is not None:
            exchange.key = layout.key

    def _learn(self, header: bytes, body: AnyBody, exchange: Exchange) -> None:
        """Remember a header that says the same whenever it comes again."""
        timeout = body.parameters is not None and "timeout" in body.parameters
        inputs = exchange.columns
        if body.id or timeout or len(header) > MAX_HEADER or len(inputs) != len(body.inputs):
            return
        if any(tensor.data is not None or tensor.datatype == DType.BYTES for tensor in body.inputs):
            return
        tensors, offset = [], 0
        for tensor in body.inputs:
            array = inputs[tensor.name]
            tensors.append((tensor.name, array.dtype, array.shape, offset))
            offset += array.nbytes
        if len(self._layouts) >= MAX_HEADERS:
            self._layouts.clear()
        self._layouts[header] = _Layout(tuple(tensors), offset, exchange.rows, exchange.key, exchange.binary)

    def _parse(self, raw: bytes | bytearray) -> AnyBody:
        if self._all_float:
            try:
                floats: FloatInferBody = _floats.decode(raw)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                pass  # the general decoder takes more (nested data), or says what is wrong
            else:
                return floats
        try:
            general: InferBody = _general.decode(raw)
        except msgspec.DecodeError as error:
            raise InvalidInput(f"the body is not a V2 inference request: {error}") from None
        except UnicodeDecodeError:
            raise InvalidInput("the body is not valid UTF-8") from None
        except RecursionError:
            raise InvalidInput("the body is nested too deeply; a tensor has at most 32 axes") from None
        return general

    def _columns(self, tensors: list[Any], tail: memoryview) -> Columns:
        columns: Columns = {}
        place = 0
        for tensor in tensors:
            name = tensor.name
            known = self._inputs.get(name)
            if known is None:
                raise InvalidInput(f"unknown input {name!r}.{nearest(name, self._inputs)}")
            shape = self._shape(known, tensor)
            if type(tensor) is FloatTensorBody and tensor.data is not None:
                columns[name] = _floats_array(known, shape, tensor.data)
            elif tensor.data is None and tensor.parameters is not None:
                size = _binary_size(tensor)
                raw = tail[place : place + size]
                columns[name] = array_from_bytes(name, known.spec.tensor.dtype, tuple(shape), raw)
                place += size
            else:
                columns[name] = array_from_json(name, known.spec.tensor.dtype, tuple(shape), tensor.data)
        if place != len(tail):
            raise InvalidInput(
                f"{len(tail)} raw bytes follow the header, the inputs' `binary_data_size` add to {place}"
            )
        if len(columns) != len(self._inputs) or len(tensors) != len(self._inputs):
            self._complete(columns, tensors)
        return columns

    def _shape(self, known: _Input, tensor: AnyTensor) -> list[int]:
        given = tensor.shape
        if tensor.datatype != known.dtype:
            raise InvalidInput(f"input {tensor.name!r} is {known.dtype}, got datatype {short(tensor.datatype)}")
        if known.row is not None and given[1:] == known.row and given[0] >= 0:
            return given
        wanted = known.spec.tensor.shape
        if len(given) == len(wanted):
            axes = zip(given, wanted, strict=True)
            if all(size >= 0 and (axis is None or size == axis) for size, axis in axes):
                return given
        raise InvalidInput(f"input {tensor.name!r} has shape {show_shape(wanted)}, got {given}")

    def _complete(self, columns: Columns, tensors: list[Any]) -> None:
        """Fill in what may be left out; refuse what is missing or given twice."""
        if len(columns) != len(tensors):
            names = [tensor.name for tensor in tensors]
            twice = next(name for name in names if names.count(name) > 1)
            raise InvalidInput(f"input {twice!r} is given twice")
        missing = [known.spec for name, known in self._inputs.items() if name not in columns]
        needed = [spec.name for spec in missing if spec.required]
        if needed or not columns:
            raise InvalidInput(f"missing input {needed[0] if needed else next(iter(self._inputs))!r}")
        rows = len(next(iter(columns.values())))
        for spec in missing:
            empty = "" if spec.tensor.dtype is DType.BYTES else math.nan
            columns[spec.name] = np.full(rows, empty, spec.tensor.dtype.numpy)

    def _rows(self, exchange: Exchange) -> None:
        columns = exchange.columns
        if self._batched:
            first = next(iter(columns))
            exchange.rows = rows = len(columns[first])
            if len(columns) > 1:
                for name, array in columns.items():
                    if len(array) != rows:
                        raise InvalidInput(f"input {name!r} has {len(array)} rows but {first!r} has {rows}")
        else:
            exchange.rows = 1
        exchange.nbytes = len(exchange.body)
        if self._ragged:
            exchange.key = tuple(columns[name].shape[1:] for name in self._inputs)

    def _parameters(self, exchange: Exchange, parameters: Parameters) -> None:
        timeout = parameters.get("timeout")
        if timeout is not None:
            if not isinstance(timeout, int | float) or isinstance(timeout, bool) or timeout <= 0:
                raise InvalidInput(f"parameter `timeout` must be microseconds above 0, got {short(timeout)}")
            if timeout < self.served.limits.timeout * 1e6:
                exchange.deadline = exchange.arrived + timeout / 1e6
        if "sequence_id" in parameters:
            raise InvalidInput("sequences (`sequence_id`) are not offered: every request stands for itself")
        if parameters.get("binary_data_output") is True:
            exchange.binary = dict.fromkeys(exchange.binary or self._outputs, True)

    def _binary(self, output: OutputBody) -> bool:
        if output.name not in self._outputs:
            raise InvalidInput(f"unknown output {output.name!r}.{nearest(output.name, self._outputs)}")
        if not output.parameters:
            return False
        for name in ("classification", "shared_memory_region"):
            if name in output.parameters:
                raise InvalidInput(f"output {output.name!r}: `{name}` is not offered; ask for the plain output")
        return output.parameters.get("binary_data") is True

    # Encoding

    def encode(self, exchange: Exchange, outputs: Columns) -> tuple[bytes, bytes]:
        binary = exchange.binary
        if len(outputs) == 1 and not exchange.id:
            (name,) = outputs
            if binary is None:
                return JSON, self._encode_json(name, outputs[name])
            if binary.get(name):
                return self._encode_raw(name, outputs[name])
        return self._encode_any(exchange, outputs, binary)

    def _encode_json(self, name: str, array: Array) -> bytes:
        """One output as JSON: all up to its numbers is the same for every answer of its shape."""
        key = (name, array.dtype, array.shape)
        known = self._json_starts.get(key)
        if known is None:
            before, after = self._json_head(name, array)
            first = b"%d" % len(array) if array.ndim else b""
            known = b'%b,"outputs":[%b%b%b"data":' % (self._prefix, before, first, after)
            _remember(self._json_starts, key, known)
        return b"%b%b}]}" % (known, json_from_array(array))

    def _encode_raw(self, name: str, array: Array) -> tuple[bytes, bytes]:
        """One output as raw bytes: all but the bytes is the same for every answer of its shape."""
        if array.dtype.kind == "O":
            raw = bytes_from_array(array)
            header = b'%b,"outputs":[%b]}' % (self._prefix, self._raw_entry(name, array, len(raw)))
            return _raw_kind(header), header + raw
        key = (name, array.dtype, array.shape)
        known = self._binary_heads.get(key)
        if known is None:
            header = b'%b,"outputs":[%b]}' % (self._prefix, self._raw_entry(name, array, array.nbytes))
            known = (_raw_kind(header), header)
            _remember(self._binary_heads, key, known)
        return known[0], known[1] + array.tobytes()

    def _encode_any(self, exchange: Exchange, outputs: Columns, binary: dict[str, bool] | None) -> tuple[bytes, bytes]:
        entries: list[bytes] = []
        tails: list[bytes] = []
        for name in outputs if binary is None else binary:
            array = outputs[name]
            if binary is not None and binary[name]:
                tails.append(bytes_from_array(array))
                entries.append(self._raw_entry(name, array, len(tails[-1])))
            else:
                before, after = self._json_head(name, array)
                first = b"%d" % len(array) if array.ndim else b""
                entries.append(b'%b%b%b"data":%b}' % (before, first, after, json_from_array(array)))
        id_ = b',"id":%b' % orjson.dumps(exchange.id) if exchange.id else b""
        header = b'%b%b,"outputs":[%b]}' % (self._prefix, id_, b",".join(entries))
        if not tails:
            return JSON, header
        return _raw_kind(header), b"".join((header, *tails))

    def _raw_entry(self, name: str, array: Array, size: int) -> bytes:
        before, after = self._json_head(name, array)
        first = b"%d" % len(array) if array.ndim else b""
        return b'%b%b%b"parameters":{"binary_data_size":%d}}' % (before, first, after, size)

    def _json_head(self, name: str, array: Array) -> tuple[bytes, bytes]:
        """An output's entry up to its row count, and from there up to its data."""
        key = (name, array.dtype, array.shape[1:])
        known = self._json_heads.get(key)
        if known is None:
            row = "".join(f",{size}" for size in array.shape[1:])
            begin = f'{{"name":{orjson.dumps(name).decode()},"datatype":"{DType.of(array)}","shape":['
            known = (begin.encode(), f"{row}],".encode())
            _remember(self._json_heads, key, known)
        return known


def _input(spec: InputSpec) -> _Input:
    axes = spec.tensor.shape
    row = [axis for axis in axes[1:] if axis is not None]
    fixed = len(axes) > 0 and len(row) == len(axes) - 1 and axes[0] is None
    dtype = spec.tensor.dtype
    return _Input(spec, str(dtype), dtype.numpy, row if fixed else None, _packer(dtype))


def _remember(table: dict[Any, Any], key: Any, value: Any) -> None:
    if len(table) >= MAX_HEADERS:  # shapes that follow the input could fill memory
        table.clear()
    table[key] = value


def _raw_kind(header: bytes) -> bytes:
    return b"content-type: application/octet-stream\r\ninference-header-content-length: %d\r\n" % len(header)


def show_shape(shape: tuple[int | None, ...]) -> list[int]:
    """A shape in messages and metadata: free axes are -1."""
    return [-1 if axis is None else axis for axis in shape]


def _floats_array(known: _Input, shape: list[int], data: list[float]) -> Array:
    if len(data) != math.prod(shape):
        raise wrong_count(known.spec.name, tuple(shape), len(data))
    try:
        if known.packer is not None and len(data) <= PACKED_UP_TO:
            return np.ndarray(shape, known.numpy, known.packer(len(data)).pack(*data))
        return np.array(data, dtype=known.numpy).reshape(shape)
    except (FloatingPointError, OverflowError):  # a number that does not fit; the general way says which one
        return array_from_json(known.spec.name, known.spec.tensor.dtype, tuple(shape), data)


def _packer(dtype: DType) -> Callable[[int], Struct] | None:
    """From a count to what packs so many floats, three times as fast as numpy does up to some hundreds."""
    code = {DType.FP16: "e", DType.FP32: "f", DType.FP64: "d"}.get(dtype)
    if code is None:
        return None
    return cache(lambda count: Struct(f"<{count}{code}"))


def _check_split(exchange: Exchange) -> None:
    """Refuse a header length that is no length of this body."""
    value = exchange.head.headers.get(HEADER_LENGTH)
    if value is not None:
        text, size = value.decode("latin-1"), len(exchange.body)
        raise InvalidInput(f"Inference-Header-Content-Length is {text!r}; the body has {size} bytes")


def _binary_size(tensor: AnyTensor) -> int:
    parameters = tensor.parameters or {}
    if "shared_memory_region" in parameters:
        raise InvalidInput(f"input {tensor.name!r}: shared memory is not offered; send `data` or raw bytes")
    size = parameters.get("binary_data_size")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise InvalidInput(f"input {tensor.name!r} has neither `data` nor a `binary_data_size`")
    return size
