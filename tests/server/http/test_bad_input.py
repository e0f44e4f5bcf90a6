"""Everything wrong that a body can be, one by one: the right status, and a message that helps."""

from __future__ import annotations

import base64
import gzip
import io
import json
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.server.conftest import EXAMPLES
from tests.server.http.raw import Answer, Wire, ask, eventually, post, quiet, request, sample
from tests.server.process import Server

GOOD = {"name": "x", "shape": [1, 64], "datatype": "FP32", "data": [0.5] * 64}
PAIR = {"name": "x", "shape": [1, 2], "datatype": "INT64", "data": [1, 2]}
ROW = json.loads((EXAMPLES / "fraud" / "sample.json").read_text())["instances"][0]


@pytest.fixture
def wire(served: Server) -> Iterator[Wire]:
    """After whatever the test sends, the same connection must still be served."""
    with quiet(served.log), Wire(served.port) as wire:
        yield wire
        answer = wire.send(post("/v2/models/affine/infer", {"inputs": [GOOD]})).answer()
        assert answer.status == 200


def infer(wire: Wire, model: str, *inputs: Any, **more: Any) -> Answer:
    return wire.send(post(f"/v2/models/{model}/infer", {"inputs": inputs, **more})).answer()


def predict(wire: Wire, model: str, body: Any, *headers: str) -> Answer:
    return wire.send(post(f"/v1/models/{model}:predict", body, *headers)).answer()


def refused(answer: Answer, *words: str) -> None:
    assert answer.status == 400, answer
    message = answer.error
    assert not [word for word in words if word not in message], message


# V2


@pytest.mark.parametrize("model", ["affine", "versions", "bytes"])
@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"", "V2 inference request"),
        (b"{", "V2 inference request"),
        (b"nonsense", "V2 inference request"),
        (b"[]", "object"),
        (b"null", "object"),
        (b"{}", "inputs"),
        (b'{"inputs": {}}', "inputs"),
        (b'{"inputs": [3]}', "inputs"),
        (b'{"inputs": [{"shape": [1, 64]}]}', "name"),
        (b'{"inputs": [], "id": 5}', "id"),
        (b'{"inputs": [{"name": "x", "shape": "1", "datatype": "FP32"}]}', "shape"),
        (b'{"inputs": [{"name": "x", "shape": [1.5], "datatype": "FP32"}]}', "shape"),
        (b'{"inputs": [{"name": "\xff\xfe", "shape": [1], "datatype": "FP32"}]}', "UTF-8"),
        (b"\xff\xfe{}", "V2 inference request"),
        (b'{"inputs": [{"name": "x", "data": ' + b"[" * 100_000, "nested too deeply"),
        (b'{"inputs": ' + b'{"a": ' * 100_000, "inputs"),
    ],
    ids=lambda value: value[:40] if isinstance(value, bytes) else "",
)
def test_bodies_that_are_no_request(wire: Wire, model: str, body: bytes, word: str) -> None:
    refused(wire.send(post(f"/v2/models/{model}/infer", body)).answer(), word)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data": ["a"] * 64}, ["'x'", "'a'"]),
        ({"data": [None] * 64}, ["'x'", "missing"]),
        ({"data": [{}] * 64}, ["'x'"]),
        ({"data": [[0.5] * 63 + [[]]]}, ["'x'", "64", "63"]),
        ({"data": [1e39] * 64}, ["'x'", "1e+39", "FP32"]),
        ({"data": [10**400] + [0] * 63}, ["'x'"]),
        ({"data": [0.5] * 63}, ["'x'", "64", "63"]),
        ({"data": [0.5] * 65}, ["'x'", "64", "65"]),
        ({"data": []}, ["'x'", "64", "0"]),
        ({"data": 5}, ["'x'", "5"]),
        ({"data": "text"}, ["'x'", "text"]),
        ({"data": None}, ["'x'", "data"]),
        ({"shape": [1, 63]}, ["'x'", "[-1, 64]", "[1, 63]"]),
        ({"shape": [64]}, ["'x'", "[-1, 64]", "[64]"]),
        ({"shape": []}, ["'x'", "[-1, 64]", "[]"]),
        ({"shape": [-1, 64]}, ["'x'", "[-1, 64]"]),
        ({"shape": [2**62, 64]}, ["'x'"]),
        ({"shape": [10**30, 64]}, ["'x'"]),
        ({"shape": [1, 1, 64]}, ["'x'", "[1, 1, 64]"]),
        ({"datatype": "FP64"}, ["'x'", "FP32", "FP64"]),
        ({"datatype": "fp32"}, ["FP32", "fp32"]),
        ({"datatype": ""}, ["FP32"]),
        ({"name": "y"}, ["unknown input 'y'", "x"]),
        ({"name": ""}, ["unknown input ''"]),
        ({"parameters": {"binary_data_size": 256}, "data": None}, ["'x'", "256", "0"]),
    ],
)
def test_wrong_floats(wire: Wire, change: dict[str, Any], words: list[str]) -> None:
    refused(infer(wire, "affine", {**GOOD, **change}), *words)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([1, 2.5], ["'x'", "2.5"]),
        ([1, 2**63], ["'x'", "INT64"]),
        ([1, 10**400], ["'x'"]),
        ([1, "2"], ["'x'", "'2'"]),
        ([1, None], ["'x'", "missing"]),
        ([1], ["'x'", "2", "1"]),
    ],
)
def test_wrong_whole_numbers(wire: Wire, data: list[Any], words: list[str]) -> None:
    refused(infer(wire, "versions", {**PAIR, "data": data}), *words)


@pytest.mark.parametrize("data", [[1, "a"], [None, "a"], [["a"], {"b64": "!"}], [{"b65": ""}, "a"]])
def test_wrong_texts(wire: Wire, data: list[Any]) -> None:
    refused(infer(wire, "bytes", {"name": "x", "shape": [1, 2], "datatype": "BYTES", "data": data}), "'x'")


def test_half_of_a_pair_of_surrogates_is_no_text(wire: Wire) -> None:
    body = b'{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "BYTES", "data": ["a", "\\ud800"]}]}'
    refused(wire.send(post("/v2/models/bytes/infer", body)).answer())
    assert predict(wire, "bytes", b'{"instances": [["a", "\\ud800"]]}').status == 400


def test_missing_unknown_and_double_inputs(wire: Wire) -> None:
    a, b = ({"name": name, "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]} for name in "ab")
    refused(infer(wire, "two-inputs", a), "missing input 'b'")
    refused(infer(wire, "two-inputs"), "missing input")
    refused(infer(wire, "two-inputs", a, a), "'a' is given twice")
    refused(infer(wire, "two-inputs", a, b, b), "'b' is given twice")
    refused(infer(wire, "two-inputs", a, b, {**b, "name": "c"}), "unknown input 'c'")
    longer = {**b, "shape": [2, 3], "data": [0] * 6}
    refused(infer(wire, "two-inputs", a, longer), "'b' has 2 rows", "'a' has 1")


def test_unknown_outputs_and_parameters(wire: Wire) -> None:
    refused(infer(wire, "affine", GOOD, outputs=[{"name": "z"}]), "unknown output 'z'", "y")
    for timeout in (0, -1, "1", True, None):
        answer = infer(wire, "affine", GOOD, parameters={"timeout": timeout})
        assert answer.status == (200 if timeout is None else 400)
        assert timeout is None or "`timeout`" in answer.error
    assert infer(wire, "affine", GOOD, parameters={"timeout": 10**400}).status == 200


def test_a_deep_list_costs_nothing(wire: Wire) -> None:
    """Each of its levels must not be a walk over the whole."""
    deep: Any = 1
    for _ in range(500):
        deep = [deep]
    refused(infer(wire, "versions", {**PAIR, "data": [deep, *[1] * 300_000]}), "'x'")


# Raw bytes


def raw(model: str, header: Any, tail: bytes, split: object = None) -> bytes:
    text = json.dumps(header).encode()
    length = len(text) if split is None else split
    return post(f"/v2/models/{model}/infer", text + tail, f"Inference-Header-Content-Length: {length}")


def binary(size: object, **change: Any) -> dict[str, Any]:
    tensor = {**GOOD, "parameters": {"binary_data_size": size}, **change}
    return {"inputs": [{key: value for key, value in tensor.items() if key != "data"}]}


@pytest.mark.parametrize(
    ("size", "sent", "words"),
    [
        (255, 255, ["'x'", "256", "255"]),
        (256, 255, ["'x'", "256", "255"]),
        (256, 257, ["257", "256"]),
        (0, 0, ["'x'", "256", "0"]),
        (10**30, 256, ["257", "256"][1:]),
        (-256, 256, ["binary_data_size"]),
        ("256", 256, ["binary_data_size"]),
        (True, 256, ["binary_data_size"]),
        (None, 256, ["binary_data_size"]),
    ],
)
def test_wrong_byte_counts(wire: Wire, size: object, sent: int, words: list[str]) -> None:
    for _ in range(2):  # the second time, the header might be remembered
        answer = wire.send(raw("affine", binary(size), bytes(sent))).answer()
        if (size, sent) == (10**30, 256):
            assert answer.status == 200 or answer.error
        else:
            refused(answer, *words)
        assert wire.send(raw("affine", binary(256), bytes(256))).answer().status == 200


@pytest.mark.parametrize("split", [-1, 0, 5, 10**6, 10**30, "abc", "", "+200", "1e2", "9" * 5000])
def test_wrong_header_lengths(wire: Wire, split: object) -> None:
    answer = wire.send(raw("affine", binary(256), bytes(256), split)).answer()
    assert answer.status == 400
    assert answer.error


def test_raw_shapes_that_no_memory_holds(wire: Wire) -> None:
    for shape in ([2**40, 64], [10**30, 64], [-4, 64]):
        refused(wire.send(raw("affine", binary(256, shape=shape), bytes(256))).answer(), "'x'")


@pytest.mark.parametrize(
    ("tail", "word"),
    [
        (b"\1\0\0\0a\1\0\0", "cut off"),
        (b"\1\0\0\0a\5\0\0\0b", "5 bytes"),
        (b"\1\0\0\0a", "2"),
        (b"\1\0\0\0a" * 3, "3"),
        (b"\xff\xff\xff\xff", "4294967295"),
        (b"", "2"),
    ],
)
def test_wrong_raw_texts(wire: Wire, tail: bytes, word: str) -> None:
    tensor = {"name": "x", "shape": [1, 2], "datatype": "BYTES", "parameters": {"binary_data_size": len(tail)}}
    refused(wire.send(raw("bytes", {"inputs": [tensor]}, tail)).answer(), word)


def test_raw_bytes_that_are_no_utf_8(wire: Wire) -> None:
    """In they may go (the model decides); as JSON they cannot come out."""
    tail = b"\1\0\0\0\xff\1\0\0\0b"
    tensor = {"name": "x", "shape": [1, 2], "datatype": "BYTES", "parameters": {"binary_data_size": len(tail)}}
    answer = wire.send(raw("bytes", {"inputs": [tensor]}, tail)).answer()
    assert answer.status in (400, 500)
    assert answer.error
    text = {"name": "text", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 5}}
    refused(wire.send(raw("task-priority", {"inputs": [text]}, b"\1\0\0\0\xff")).answer(), "UTF-8")


# Compressed


def test_compressed_bodies(wire: Wire) -> None:
    plain = json.dumps({"inputs": [GOOD]}).encode()
    for coding, body in (("gzip", gzip.compress(plain)), ("deflate", zlib.compress(plain)), ("identity", plain)):
        answer = wire.send(post("/v2/models/affine/infer", body, f"Content-Encoding: {coding}")).answer()
        assert answer.status == 200, coding
        upper = wire.send(post("/v2/models/affine/infer", body, f"Content-Encoding: {coding.upper()}")).answer()
        assert upper.body == answer.body


@pytest.mark.parametrize(
    ("coding", "body", "word"),
    [
        ("gzip", b"{}", "gzip"),
        ("gzip", b"", "cut off"),
        ("gzip", gzip.compress(b"{}" * 100)[:-4], "cut off"),
        ("gzip", gzip.compress(b"{}") + b"more", "after"),
        ("deflate", b"{}", "deflate"),
        ("br", b"{}", "br"),
        ("gzip, gzip", b"{}", "gzip"),
    ],
)
def test_wrong_compression(wire: Wire, coding: str, body: bytes, word: str) -> None:
    refused(wire.send(post("/v2/models/affine/infer", body, f"Content-Encoding: {coding}")).answer(), word)


def test_a_compression_bomb(wire: Wire) -> None:
    squeezed = zlib.compressobj(9, wbits=31)
    zeros = bytes(1 << 20)
    body = b"".join(squeezed.compress(zeros) for _ in range(80)) + squeezed.flush()
    answer = wire.send(post("/v2/models/affine/infer", body, "Content-Encoding: gzip")).answer()
    assert answer.status == 413
    assert "unpacks" in answer.error


# V1


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"", "JSON"),
        (b"{", "JSON"),
        (b"\xff", "JSON"),
        (b"NaN", "JSON"),
        (b'{"instances": [NaN]}', "JSON"),
        (b"[1]", "instances"),
        (b"{}", "instances"),
        (b'{"instances": 5}', "instances"),
        (b'{"instances": ' + b"[" * 100_000, "JSON"),
        (b'{"instances": [[1, 2]]}', "shape [2]"),
        (b'{"instances": ["a"]}', "'x'"),
        (b'{"instances": [{"z": 1}]}', "unknown input 'z'"),
        (b'{"instances": [null]}', "'x'"),
        (b'{"instances": [{}]}', "'x'"),
    ],
    ids=lambda value: value[:40] if isinstance(value, bytes) else "",
)
def test_wrong_v1_bodies(wire: Wire, body: bytes, word: str) -> None:
    refused(predict(wire, "affine", body), word)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"amount": None}, ["'amount'"]),
        ({"amount": -1}, ["'amount'", "-1", "minimum 0"]),
        ({"amount": 1e9}, ["'amount'", "maximum 100000"]),
        ({"hour": "noon"}, ["'hour'", "'noon'"]),
        ({"channel": "onlin"}, ["'channel'", "onlin", "'online'"]),
        ({"channel": 5}, ["'channel'", "5"]),
        ({"colour": "red"}, ["unknown input 'colour'"]),
    ],
)
def test_values_that_model_yaml_does_not_allow(wire: Wire, change: dict[str, Any], words: list[str]) -> None:
    refused(predict(wire, "fraud", {"instances": [{**ROW, **change}]}), *words)


def test_the_wrong_row_is_named(wire: Wire) -> None:
    refused(predict(wire, "fraud", {"instances": [ROW, ROW, {**ROW, "amount": -1}]}), "row 2", "'amount'")


def test_nan_where_it_is_not_allowed(wire: Wire) -> None:
    """JSON cannot write it; raw bytes can."""
    inputs, tail = [], b""
    for name, value in ROW.items():
        text = isinstance(value, str)
        number = float("nan") if name == "amount" else value
        piece = struct.pack("<I", len(value)) + value.encode() if text else np.float32(number).tobytes()
        kind = "BYTES" if text else "FP32"
        inputs.append({"name": name, "shape": [1], "datatype": kind, "parameters": {"binary_data_size": len(piece)}})
        tail += piece
    refused(wire.send(raw("fraud", {"inputs": inputs}, tail)).answer(), "'amount'", "nan")


def test_a_text_that_is_too_long(wire: Wire) -> None:
    refused(predict(wire, "task-priority", {"instances": ["x" * 1001]}), "1001", "1000")
    refused(predict(wire, "task-priority", b"\xff\xfe", "Content-Type: text/plain"), "UTF-8")
    refused(predict(wire, "task-priority", {"instances": [""]}), "'text'")


# Images


def picture(kind: str = "PNG", size: tuple[int, int] = (40, 40)) -> bytes:
    file = io.BytesIO()
    Image.effect_noise(size, 80).save(file, kind)
    return file.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A small PNG that says it is large."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = b"IDAT" + zlib.compress(bytes(1000))
    chunks = [head, data, b"IEND"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks
    )


IMAGES = {
    "no image": (b"no image at all", ""),
    "an empty body": (b"", "empty"),
    "a truncated JPEG": (picture("JPEG", (200, 200))[:-3000], "damaged"),
    "a JPEG of its head alone": (picture("JPEG")[:30], ""),
    "a truncated PNG": (picture("PNG")[:-300], "damaged"),
    "more pixels than allowed": (bomb(6_000, 6_000), "20000000"),
    "pixels without end": (bomb(2**31 - 1, 2**31 - 1), "too large"),
    "a format nobody expects": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", ""),
    "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", ""),
}


@pytest.mark.parametrize(("content", "word"), IMAGES.values(), ids=IMAGES)
def test_images_that_are_none(wire: Wire, content: bytes, word: str) -> None:
    refused(predict(wire, "digits", content, "Content-Type: image/png"), "image", word)
    encoded = base64.b64encode(content).decode()
    refused(predict(wire, "digits", {"instances": [{"image": {"b64": encoded}}]}), "image", word)


def test_a_bad_image_fails_alone(wire: Wire) -> None:
    good = (EXAMPLES / "digits" / "sample.png").read_bytes()
    url, kind = "/v1/models/digits:predict", "Content-Type: image/png"
    wire.send(b"".join(post(url, content, kind) for content in (good, b"bad", good, bomb(30_000, 30_000), good)))
    answers = wire.answers(5)
    assert [answer.status for answer in answers] == [200, 400, 200, 400, 200]
    labels = {json.dumps(answer.json["predictions"][0]["label"]) for answer in answers[::2]}
    assert len(labels) == 1


def test_an_image_for_a_model_that_takes_none(wire: Wire) -> None:
    refused(predict(wire, "fraud", picture(), "Content-Type: image/png"), "fraud", "image", "amount")


# Models


@pytest.mark.parametrize("prefix", ["/v2/models/{}/infer", "/v1/models/{}:predict"])
def test_unknown_models_and_versions(wire: Wire, prefix: str) -> None:
    for name, word in (("affin", "'affine'"), ("versions/versions/9", "'9'"), ("%00", ""), ("a" * 2000, "")):
        answer = wire.send(post(prefix.format(name), {"inputs": [GOOD]})).answer()
        assert answer.status == 404
        assert word in answer.error


def test_a_model_that_could_not_be_loaded(wire: Wire, served: Server) -> None:
    answer = infer(wire, "broken", GOOD)
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert "'broken'" in answer.error
    ready = wire.send(request("GET", "/readyz")).answer()
    assert ready.status == 503
    assert "broken" in ready.error
    assert "affine" not in ready.error
    assert wire.send(request("GET", "/livez")).answer().status == 200


def test_an_error_of_the_artifact_itself(wire: Wire) -> None:
    """An id the table does not have fails inside the artifact, and fails alone."""
    tensor = {"name": "id", "shape": [1], "datatype": "INT64", "data": [3]}
    url = "/v2/models/lookup/infer"
    wire.send(b"".join(post(url, {"inputs": [{**tensor, "data": [i]}]}) for i in (1, 99, 2)))
    answers = wire.answers(3)
    assert [answer.status for answer in answers] == [200, 400, 200]
    assert [answers[i].json["outputs"][0]["data"] for i in (0, 2)] == [[10.0], [20.0]]
    assert answers[1].error


def test_more_rows_than_may_wait(wire: Wire) -> None:
    rows = 3000
    answer = infer(wire, "versions", {**PAIR, "shape": [rows, 2], "data": [0] * 2 * rows})
    assert answer.status == 413
    assert "3000 rows" in answer.error
    assert "2048" in answer.error


def test_no_rows_at_all(wire: Wire) -> None:
    answer = infer(wire, "versions", {**PAIR, "shape": [0, 2], "data": []})
    assert answer.status == 200
    assert (answer.json["outputs"][0]["shape"], answer.json["outputs"][0]["data"]) == ([0, 2], [])
    assert predict(wire, "versions", {"instances": []}).json == {"predictions": []}


def test_what_was_refused_is_counted(served: Server) -> None:
    before = refusals(served)
    for _ in range(3):
        assert ask(served.port, post("/v2/models/half/infer", b"{")).status == 400
    assert eventually(lambda: refusals(served) == before + 3)


def refusals(served: Server) -> float:
    return sample(served.port, "forwardpass_requests_total", model="half", outcome="invalid_input")
