"""Batches survive the way to a worker and back, whatever their types, shapes and sizes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from forwardpass.engine.arena import Arena
from forwardpass.engine.messages import (
    LENGTHS,
    SHARED_FROM,
    BatchHead,
    FailedHead,
    Head,
    ReadyHead,
    ReplyHead,
    decode_columns,
    decode_head,
    encode_columns,
    frame,
)
from forwardpass.errors import BackendFailed
from forwardpass.types import (
    Array,
    Columns,
    DType,
    InputSpec,
    InputType,
    ModelInfo,
    Sample,
    Signature,
    StageTimes,
    TensorSpec,
)

ARENA = Arena.create()
NUMBERS = [dtype for dtype in DType if dtype is not DType.BYTES]
shapes = npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.binary(max_size=8)


@st.composite
def numbers(draw: st.DrawFn) -> Array:
    dtype = draw(st.sampled_from(NUMBERS))
    shape = draw(shapes)
    size = int(np.prod(shape, dtype=int)) * dtype.numpy.itemsize
    raw = np.frombuffer(draw(st.binary(min_size=size, max_size=size)), np.uint8)
    if dtype is DType.BOOL:
        raw = raw % 2
    array = raw.astype(np.uint8).view(dtype.numpy).reshape(shape)
    layouts = [array, array.T, array[::-1] if array.ndim else array, array[..., ::2] if array.ndim else array]
    return draw(st.sampled_from(layouts))


@st.composite
def strings(draw: st.DrawFn) -> Array:
    shape = draw(shapes)
    array = np.empty(shape, object)
    for index in np.ndindex(*shape):
        array[index] = draw(texts)
    return array


def sent(columns: Columns, arena: Arena | None) -> Columns:
    """The columns as they arrive at the other end of a socket."""
    if arena is not None:
        arena.reset()
    heads, body = encode_columns(columns, arena)
    data = memoryview(frame(BatchHead([1], heads), body))
    head_size, body_size = LENGTHS.unpack(data[: LENGTHS.size])
    message = data[LENGTHS.size :]
    assert len(message) == head_size + body_size
    head = decode_head(message[:head_size])
    assert isinstance(head, BatchHead)
    return decode_columns(head.columns, message[head_size:], arena)


def same(a: Array, b: Array) -> None:
    assert a.shape == b.shape
    assert DType.of(a) is DType.of(b)
    if a.dtype.kind == "O":
        assert a.ravel().tolist() == b.ravel().tolist()
        assert [type(value) for value in a.flat] == [type(value) for value in b.flat]
    else:
        assert a.tobytes() == b.tobytes(), "bit for bit, NaN as well"


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.text(max_size=5), numbers() | strings(), max_size=4), st.booleans())
def test_columns_arrive_as_they_were_sent(columns: Columns, shared: bool) -> None:
    arrived = sent(columns, ARENA if shared else None)
    assert list(arrived) == list(columns)
    for name, array in columns.items():
        same(arrived[name], array)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(SHARED_FROM // 8 - 2, SHARED_FROM // 8 + 2), min_size=1, max_size=4), st.booleans())
def test_large_columns_go_through_shared_memory_and_small_ones_do_not(sizes: list[int], shared: bool) -> None:
    columns: Columns = {str(i): np.arange(size, dtype=np.float64) + i for i, size in enumerate(sizes)}
    columns["text"] = np.array(["ä" * SHARED_FROM, "short"], object)
    arena = ARENA if shared else None
    if arena is not None:
        arena.reset()
    heads, body = encode_columns(columns, arena)
    assert [head.offset is not None for head in heads] == [shared and head.nbytes >= SHARED_FROM for head in heads]
    arrived = decode_columns(heads, memoryview(b"".join(body)), arena)
    for name, array in columns.items():
        same(arrived[name], array)


def test_what_finds_no_room_in_shared_memory_goes_through_the_socket() -> None:
    arena = Arena.create()
    if arena is None:
        pytest.skip("this system has no anonymous shared files")
    arena.allocate(200 * 1024 * 1024)
    array = np.arange(10_000_000, dtype=np.int64)
    heads, body = encode_columns({"large": array, "small": array[:SHARED_FROM]}, arena)
    assert [head.offset is None for head in heads] == [True, False]
    arrived = decode_columns(heads, memoryview(b"".join(body)), arena)
    same(arrived["large"], array)
    same(arrived["small"], array[:SHARED_FROM])


@pytest.mark.parametrize("flavour", [np.array(["a", "bc"]), np.array([b"a", b"bc"])])
def test_texts_of_any_numpy_flavour_arrive_as_objects(flavour: Array) -> None:
    assert sent({"x": flavour}, None)["x"].tolist() == flavour.tolist()


def test_numpys_own_texts_in_an_object_column_arrive_as_texts() -> None:
    labels = np.array(["low", "high"])
    column = np.empty(2, object)
    column[:] = [labels[1], np.bytes_(b"raw")]
    arrived = sent({"x": column}, None)["x"].tolist()
    assert arrived == ["high", b"raw"]
    assert [type(value) for value in arrived] == [str, bytes]


def ragged() -> Array:
    column = np.empty(2, object)
    column[:] = [np.zeros(1), np.zeros(2)]
    return column


@pytest.mark.parametrize(
    "column",
    [
        ragged(),
        np.array(["a", None], object),
        np.array([1, 2], object),
        np.array([["a"], 1], object),
        np.array(["\ud800"], object),
        np.array([2**70, "a"], object),
        np.array([1 + 2j]),
        np.array(["2026-01-01"], "datetime64[D]"),
        np.array([(1, 2)], "i4,i4"),
        np.array([1.0], np.longdouble),
    ],
    ids=["arrays", "none", "numbers", "lists", "surrogate", "huge", "complex", "date", "record", "longdouble"],
)
def test_what_cannot_be_sent_is_named(column: Array) -> None:
    with pytest.raises(BackendFailed, match="column 'odd'"):
        encode_columns({"odd": column}, None)


ready = ReadyHead(
    Signature(
        (InputSpec(TensorSpec("x", DType.BF16, (None, 3)), InputType.NUMBER, "an input", False, -1.0, None),),
        (TensorSpec("y", DType.BYTES, (None,)),),
        True,
    ),
    ModelInfo("text", "onnx", "model.onnx", ("a",), ("b",), Sample("sample.png", "image/png"), {"k": "v"}),
)


@pytest.mark.parametrize(
    "head",
    [
        BatchHead([1, 0, 2**31], []),
        ReplyHead([], {0: ("InvalidInput", "wrong"), 31: ("BackendFailed", "")}, StageTimes(0.1, 0.0, 1e-9)),
        FailedHead("InvalidModel", "no such file: ä"),
        ready,
    ],
    ids=lambda head: type(head).__name__,
)
def test_heads_arrive_as_they_were_sent(head: Head) -> None:
    data = memoryview(frame(head))
    size, body = LENGTHS.unpack(data[: LENGTHS.size])
    assert body == 0
    assert decode_head(data[LENGTHS.size : LENGTHS.size + size]) == head
