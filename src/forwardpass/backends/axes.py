"""Axes as artifacts name them: which of them are the rows, and which must be of one length.

An axis is a number, a name (one name, one length) or ``None`` (free and unnamed). Reads the names
out of an ``.onnx`` file itself, for libraries that drop them. Knows the layout of that file
(onnx.proto) down to the shapes of a graph's inputs and outputs and skips all else; runs nothing.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from pathlib import Path

Axes = tuple[int | str | None, ...]

_MODEL_GRAPH, _GRAPH_INPUT, _GRAPH_OUTPUT = 7, 11, 12
_VALUE_NAME, _VALUE_TYPE, _TYPE_TENSOR, _TENSOR_SHAPE, _SHAPE_DIM = 1, 2, 1, 2, 1
_DIM_VALUE, _DIM_PARAM = 1, 2


def is_batched(inputs: Sequence[Axes], outputs: Sequence[Axes]) -> bool:
    """Whether the first axis of every tensor is surely the rows.

    A shared name is the artifact's own word that two axes are one. Without a name there is no
    such word, so several inputs need one; a single input does not.
    """
    if not inputs or not all(axes and not isinstance(axes[0], int) for axes in (*inputs, *outputs)):
        return False
    rows = {axes[0] for axes in inputs}
    answers = {axes[0] for axes in outputs}
    if len(inputs) == 1:
        return answers <= {*rows, None}
    return None not in rows and len(rows) == 1 and answers == rows


def read_onnx_axes(artifact: Path) -> dict[str, Axes]:
    """The axes of every input and output that an ``.onnx`` file declares with a shape, by name.

    Raises ``ValueError`` where the file ends early or is something else.
    """
    with artifact.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        found: dict[str, Axes] = {}
        for graph in _messages(data, (0, len(data)), _MODEL_GRAPH):
            for number in (_GRAPH_INPUT, _GRAPH_OUTPUT):
                for value in _messages(data, graph, number):
                    found |= _value_axes(data, value)
        return found


_Span = tuple[int, int]


def _value_axes(data: mmap.mmap, value: _Span) -> dict[str, Axes]:
    names = [data[start:end].decode() for start, end in _messages(data, value, _VALUE_NAME)]
    spans = [value]
    for number in (_VALUE_TYPE, _TYPE_TENSOR, _TENSOR_SHAPE):
        spans = [inner for span in spans for inner in _messages(data, span, number)]
    if not names or not spans:
        return {}
    return {names[-1]: tuple(_axis(data, dim) for dim in _messages(data, spans[-1], _SHAPE_DIM))}


def _axis(data: mmap.mmap, dim: _Span) -> int | str | None:
    for number, value in _fields(data, dim):
        if number == _DIM_VALUE and isinstance(value, int):
            return value if 0 < value < 2**31 else None  # some write 0 or -1 where an axis is free
        if number == _DIM_PARAM and isinstance(value, tuple):
            return data[value[0] : value[1]].decode() or None
    return None


def _messages(data: mmap.mmap, span: _Span, wanted: int) -> Iterator[_Span]:
    """The spans of the fields of one number, which hold messages or text."""
    return (value for number, value in _fields(data, span) if number == wanted and isinstance(value, tuple))


def _fields(data: mmap.mmap, span: _Span) -> Iterator[tuple[int, int | _Span]]:
    """Number and value of every field of a message: a number, or where its bytes lie.

    Source: the Protocol Buffers encoding (wire types 0, 1, 2 and 5).
    """
    at, end = span
    while at < end:
        tag, at = _varint(data, at, end)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(data, at, end)
            yield tag >> 3, value
            continue
        if kind == 2:
            size, at = _varint(data, at, end)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"byte {at}: no field of an ONNX file begins here")
        if at + size > end:
            raise ValueError(f"byte {at}: a field ends after its message")
        yield tag >> 3, (at, at + size)
        at += size


def _varint(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            break
        byte, at = data[at], at + 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError(f"byte {at}: a number ends after its message")
