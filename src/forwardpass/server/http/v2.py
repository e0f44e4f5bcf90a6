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

from forwardpass.errors import InvalidInput
from forwardpass.server.http.exchange import JSON, Exchange, Route
from forwardpass.server.http.tensors import array_from_json, json_from_array, wrong_count
from forwardpass.server.inputs import (
    Input,
    check_output,
    check_shape,
    complete,
    known_input,
    row_count,
    timeout_asked,
    unknown_input,
)
from forwardpass.server.served import ServedModel
from forwardpass.server.tensors import array_from_bytes, bytes_from_array
from forwardpass.types import Array, Columns, DType

MAX_HEADER = 2048  # bytes of a JSON header that is remembered
MAX_HEADERS = 512
PACKED_UP_TO = 512  # floats
HEADER_LENGTH = b"inference-header-content-length"
Parameters = dict[str, Any]
Packer = Callable[[int], Struct]


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
        self._inputs = {spec.name: known_input(spec) for spec in signature.inputs}
        self._packers = {spec.name: _packer(spec.tensor.dtype) for spec in signature.inputs}
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
        if body.id:
            exchange.id = exchange.body_id = body.id
        exchange.columns = self._columns(body.inputs, tail)
        self._rows(exchange)
        raw = body.parameters is not None and self._parameters(exchange, body.parameters)
        if body.outputs:
            exchange.binary = {output.name: self._binary(output, raw) for output in body.outputs}
        elif raw:
            exchange.binary = dict.fromkeys(self._outputs, True)

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
                raise unknown_input(name, self._inputs)
            shape = check_shape(known, tensor.datatype, tensor.shape)
            if type(tensor) is FloatTensorBody and tensor.data is not None:
                columns[name] = _floats_array(known, shape, tensor.data, self._packers[name])
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
            complete(self._inputs, columns, [tensor.name for tensor in tensors])
        return columns

    def _rows(self, exchange: Exchange) -> None:
        columns = exchange.columns
        if self._batched:
            exchange.rows = row_count(columns)
        else:
            exchange.rows = 1
        exchange.nbytes = len(exchange.body)
        if self._ragged:
            exchange.key = tuple(columns[name].shape[1:] for name in self._inputs)

    def _parameters(self, exchange: Exchange, parameters: Parameters) -> bool:
        """Heed them. Returns whether outputs go out as raw bytes that do not say otherwise themselves."""
        exchange.deadline = exchange.arrived + timeout_asked(parameters, self.served.limits.timeout)
        return parameters.get("binary_data_output") is True

    def _binary(self, output: OutputBody, raw: bool) -> bool:
        parameters = output.parameters or {}
        check_output(output.name, self._outputs, parameters)
        return parameters.get("binary_data", raw) is True

    # Encoding

    def encode(self, exchange: Exchange, outputs: Columns) -> tuple[bytes, bytes]:
        binary = exchange.binary
        if len(outputs) == 1 and not exchange.body_id:
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
        id_ = b',"id":%b' % orjson.dumps(exchange.body_id) if exchange.body_id else b""
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


def _remember(table: dict[Any, Any], key: Any, value: Any) -> None:
    if len(table) >= MAX_HEADERS:  # shapes that follow the input could fill memory
        table.clear()
    table[key] = value


def _raw_kind(header: bytes) -> bytes:
    return b"content-type: application/octet-stream\r\ninference-header-content-length: %d\r\n" % len(header)


def _floats_array(known: Input, shape: list[int], data: list[float], packer: Packer | None) -> Array:
    if len(data) != math.prod(shape):
        raise wrong_count(known.spec.name, tuple(shape), len(data))
    if packer is None:  # BF16: a number that does not fit becomes infinite in silence
        return array_from_json(known.spec.name, known.spec.tensor.dtype, tuple(shape), data)
    try:
        if len(data) <= PACKED_UP_TO:
            return np.ndarray(shape, known.numpy, packer(len(data)).pack(*data))
        return np.array(data, dtype=known.numpy).reshape(shape)
    except (FloatingPointError, OverflowError):  # a number that does not fit; the general way says which one
        return array_from_json(known.spec.name, known.spec.tensor.dtype, tuple(shape), data)


def _packer(dtype: DType) -> Packer | None:
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
