"""Bodies of the Open Inference Protocol from the client's side: what goes out, what is believed of what comes back."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import orjson
import pytest

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
from forwardpass.gateway.protocol import SPLIT, columns_of, error_of, infer_body, is_safe, model_path
from forwardpass.types import DType, TensorSpec

Y = TensorSpec("y", DType.FP32, (None, 2))
TEXT = TensorSpec("t", DType.BYTES, (None,))


def answer(head: Any, tail: bytes = b"", status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    raw = head if isinstance(head, bytes) else orjson.dumps(head)
    return Answer(status, {**({SPLIT: str(len(raw))} if tail else {}), **(headers or {})}, raw + tail)


def output(name: str = "y", shape: Any = (1, 2), datatype: str = "FP32", **rest: Any) -> dict[str, Any]:
    return {"outputs": [{"name": name, "shape": shape, "datatype": datatype, **rest}]}


def test_paths_are_escaped() -> None:
    assert model_path("a b/c", None) == "/v2/models/a%20b%2Fc"
    assert model_path("m", "3") == "/v2/models/m/versions/3"


def test_a_body_says_what_its_bytes_are() -> None:
    columns = {"x": np.array([[1.5, 2.5]], np.float32), "t": np.array(["ä", b"\xff"], object)}
    headers, body = infer_body(columns, ["y"], 0.25)
    split = int(dict(headers)[SPLIT])
    head = orjson.loads(body[:split])
    assert head["parameters"] == {"timeout": 250_000, "binary_data_output": True}
    assert head["outputs"] == [{"name": "y", "parameters": {"binary_data": True}}]
    assert [(entry["shape"], entry["datatype"]) for entry in head["inputs"]] == [([1, 2], "FP32"), ([2], "BYTES")]
    assert [entry["parameters"]["binary_data_size"] for entry in head["inputs"]] == [8, 11]
    assert body[split:] == columns["x"].tobytes() + b"\x02\x00\x00\x00\xc3\xa4\x01\x00\x00\x00\xff"


def test_a_time_that_has_run_out_is_still_a_time() -> None:
    _, body = infer_body({"x": np.zeros(1, np.int64)}, [], -1.0)
    assert b'"timeout":1,' in body


def test_a_text_that_is_not_unicode_is_refused() -> None:
    with pytest.raises(InvalidInput, match="input 't' holds a text that is not valid Unicode"):
        infer_body({"t": np.array(["\ud800"], object)}, [], 1.0)


def test_raw_bytes_and_json_are_read() -> None:
    raw = np.array([[1, 2]], np.float32).tobytes()
    binary = answer(output(parameters={"binary_data_size": 8}), raw)
    assert columns_of(binary, [Y], 1)["y"].tolist() == [[1.0, 2.0]]
    assert columns_of(answer(output(data=[3, 4.5])), [Y], 1)["y"].tolist() == [[3.0, 4.5]]
    missing = columns_of(answer(output(data=[None, 1])), [Y], 1)["y"].tolist()[0]
    assert math.isnan(missing[0])


def test_texts_are_texts_where_all_are() -> None:
    both = b"\x01\x00\x00\x00a\x02\x00\x00\x00\xc3\xa4"
    texts = answer(output("t", [2], "BYTES", parameters={"binary_data_size": 11}), both)
    assert columns_of(texts, [TEXT], 2)["t"].tolist() == ["a", "ä"]
    raw = answer(output("t", [2], "BYTES", parameters={"binary_data_size": 11}), both[:-1] + b"\x00")
    assert columns_of(raw, [TEXT], 2)["t"].tolist() == [b"a", b"\xc3\x00"]
    assert columns_of(answer(output("t", [1], "BYTES", data=["ö"])), [TEXT], 1)["t"].tolist() == ["ö"]


def test_outputs_that_nobody_asked_for_are_passed_over() -> None:
    head = {"outputs": [*output("z", [3], "INT8", parameters={"binary_data_size": 3})["outputs"]]}
    head["outputs"] += output(parameters={"binary_data_size": 8})["outputs"]
    tail = b"abc" + np.array([1, 2], np.float32).tobytes()
    assert columns_of(answer(head, tail), [Y], 1)["y"].tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (answer(b"<html>"), "no answer to an inference request"),
        (answer(b"[]"), "no answer"),
        (answer(b"\xff\xfe"), "no answer"),
        (answer({}), "outputs"),
        (answer({"outputs": []}), "output 'y' is missing"),
        (answer({"outputs": [3]}), "no answer"),
        (answer(output(datatype="FP64", data=[1, 2])), "output 'y' is FP64, and was FP32"),
        (answer(output(shape=[1, 3], data=[1, 2, 3])), r"output 'y' has shape \[1, 3\]"),
        (answer(output(shape=[2], data=[1, 2])), r"output 'y' has shape \[2\]"),
        (answer(output(shape=[2, 2], data=[1, 2, 3, 4])), "has 2 rows, asked about 1"),
        (answer(output(shape=[0, 2], data=[])), "has 0 rows, asked about 1"),
        (answer(output(shape=[-1, -2], data=[1, 2])), "no answer"),
        (answer(output(data=["a", "b"])), "no answer"),
        (answer(output(parameters={"binary_data_size": 8}), b"1234567"), "raw bytes, got 7"),
        (answer(output(parameters={"binary_data_size": "8"}), b"12345678"), "no answer"),
        (Answer(200, {SPLIT: "99"}, b"{}"), "its header has 99 of 2 bytes"),
        (Answer(200, {SPLIT: "x"}, b"{}"), "no answer"),
    ],
)
def test_rubbish_is_told_from_an_answer(reply: Answer, why: str) -> None:
    with pytest.raises(BackendFailed, match=why):
        columns_of(reply, [Y], 1)


@pytest.mark.parametrize(
    ("status", "headers", "kind"),
    [
        (400, {}, InvalidInput),
        (422, {}, InvalidInput),
        (413, {}, TooLarge),
        (404, {}, NotReady),
        (429, {"retry-after": "7"}, QuotaExceeded),
        (503, {"retry-after": "3"}, Overloaded),
        (503, {}, NotReady),
        (504, {}, TimedOut),
        (500, {}, BackendFailed),
        (302, {}, BackendFailed),
        (401, {}, BackendFailed),
    ],
)
def test_statuses_map_back_to_kinds_with_the_servers_words(
    status: int, headers: dict[str, str], kind: type[ForwardpassError]
) -> None:
    error = error_of(answer({"error": "its words"}, status=status, headers=headers))
    assert type(error) is kind
    assert error.message == "its words"
    if isinstance(error, Overloaded):
        assert error.retry_after == float(headers["retry-after"])


def test_without_words_the_status_and_the_body_are_told() -> None:
    assert error_of(answer(b"<h1>Bad\n Gateway</h1>", status=502)).message == "it answered 502: <h1>Bad Gateway</h1>"
    assert len(error_of(answer(b"x" * 100_000, status=500)).message) < 400
    assert len(error_of(answer({"error": "x" * 100_000}, status=500)).message) < 400


@pytest.mark.parametrize(
    ("status", "headers", "safe"),
    [
        (503, {"retry-after": "1"}, True),
        (503, {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, False),
        (503, {}, False),
        (404, {}, True),
        (500, {}, False),
        (429, {"retry-after": "1"}, False),
        (504, {}, False),
    ],
)
def test_only_what_was_not_done_is_safe_to_do_elsewhere(status: int, headers: dict[str, str], safe: bool) -> None:
    assert is_safe(answer({"error": ""}, status=status, headers=headers)) is safe
