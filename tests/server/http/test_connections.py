"""What may happen to a connection: pieces, pipelines, framing, limits, slow and vanishing clients."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from tests import artifacts
from tests.server.http.raw import TIMEOUT, Answer, Wire, ask, chunked, eventually, post, quiet, request, sample
from tests.server.process import Server, running

URL = "/v2/models/numbers/infer"
MAX_BODY = 4000
LIVE = request("GET", "/livez")
INDEX = post("/v2/repository/index", b"{}")


def numbers(*values: int) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "INT64", "data": values}]}


def infer(value: int, *headers: str) -> bytes:
    return post(URL, numbers(value, value + 1), *headers)


def value(answer: Answer) -> int:
    """What was sent for it."""
    assert answer.status == 200, answer
    first, second = answer.json["outputs"][0]["data"]
    assert second == first + 1
    return int(first)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Small limits, patient."""
    folder = tmp_path_factory.mktemp("models")
    artifacts.identity(folder / "numbers" / "model.onnx", "INT64")
    settings = folder / "settings.yaml"
    settings.write_text(f"max_body_bytes: {MAX_BODY}\nmax_header_bytes: 8000\n")
    broken = folder / "models" / "broken" / "model.onnx"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"no model")
    with running([folder / "numbers", folder / "models"], "--config", str(settings)) as server:
        yield server


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Short timeouts, large bodies."""
    folder = tmp_path_factory.mktemp("models")
    artifacts.identity(folder / "numbers" / "model.onnx", "INT64")
    (folder / "settings.yaml").write_text("receive_timeout: 0.5\nsend_timeout: 0.5\nkeep_alive: 0.5\n")
    with running([folder / "numbers"], "--config", str(folder / "settings.yaml")) as server:
        yield server


@pytest.fixture
def wire(server: Server) -> Iterator[Wire]:
    with quiet(server.log), Wire(server.port) as wire:
        yield wire
    assert value(ask(server.port, infer(77))) == 77  # whatever it was, the others are served on


# Pieces and pipelines


def test_many_requests_in_one_segment_are_answered_in_order(wire: Wire) -> None:
    wire.send(b"".join(infer(i) for i in range(200)))
    assert [value(answer) for answer in wire.answers(200)] == list(range(200))


def test_a_stream_of_requests_longer_than_any_limit_on_one(wire: Wire) -> None:
    """Read in pieces that end in the middle of a head, again and again."""
    data = b"".join(infer(i, f"X-Padding: {'p' * (i % 700)}") for i in range(1500))
    answers = []
    for start in range(0, len(data), 70_000):
        wire.send(data[start : start + 70_000])
    answers = wire.answers(1500)
    assert [value(answer) for answer in answers] == list(range(1500))


def test_split_at_every_byte(server: Server) -> None:
    data = infer(1) + LIVE + infer(2) + infer(2)
    for place in range(1, len(data)):
        with Wire(server.port) as wire:
            wire.send(data[:place]).send(data[place:])
            first, live, *others = wire.answers(4)
            assert (value(first), live.status, [value(other) for other in others]) == (1, 200, [2, 2]), place


def test_byte_by_byte(wire: Wire) -> None:
    for byte in infer(1) + INDEX + infer(2):
        wire.send(bytes([byte]))
    first, index, second = wire.answers(3)
    assert (value(first), index.status, value(second)) == (1, 200, 2)


def test_both_lanes_mixed_are_answered_in_order(wire: Wire) -> None:
    order = random.Random(0)
    kinds = [order.choice(["infer", "live", "index", "bad", "unknown"]) for _ in range(300)]
    data = {"live": LIVE, "index": INDEX, "bad": post(URL, b"{"), "unknown": request("GET", "/nothing")}
    stream = b"".join(infer(i) if kind == "infer" else data[kind] for i, kind in enumerate(kinds))
    while stream:
        size = order.choice([1, 50, 300, 1000])
        wire.send(stream[:size])
        stream = stream[size:]
    status = {"live": 200, "index": 200, "bad": 400, "unknown": 404}
    for i, kind in enumerate(kinds):
        answer = wire.answer()
        if kind == "infer":
            assert value(answer) == i
        else:
            assert answer.status == status[kind], (i, kind, answer)
            assert (kind == "index") == (answer.body.startswith(b"[")), (i, kind, answer)


def test_what_arrives_while_requests_wait_their_turn_comes_after_them(server: Server) -> None:
    """Many short rounds: what is sent second must never overtake what queues behind the slow lane."""
    with Wire(server.port) as wire:
        for start in range(0, 600, 6):
            wire.send(LIVE + infer(start) + infer(start + 1) + LIVE + infer(start + 2)).send(infer(start + 3))
            wire.send(infer(start + 4)).send(LIVE + infer(start + 5))
            answers = wire.answers(9)
            values = [value(answer) for answer in answers if answer.body]
            assert values == list(range(start, start + 6))


def test_errors_in_the_middle_keep_their_place(wire: Wire) -> None:
    wire.send(infer(1) + post(URL, b"nonsense") + infer(2))
    first, error, second = wire.answers(3)
    assert (value(first), error.status, value(second)) == (1, 400, 2)


@pytest.mark.parametrize(
    ("rubbish", "status"),
    [
        (b"rubbish\r\n\r\n", 400),
        (request("POST", URL, b"", "Content-Length: 99999", length=False), 413),
        (request("GET", "/" + "a" * 9000), 431),
    ],
)
@pytest.mark.parametrize("before", [infer(1), LIVE, infer(1) + LIVE, LIVE + infer(1)])
def test_what_came_before_rubbish_is_answered_first(wire: Wire, before: bytes, rubbish: bytes, status: int) -> None:
    wire.send(before + rubbish)
    for _ in range(before.count(b"HTTP/1.1")):
        assert wire.answer().status == 200
    refusal = wire.answer()
    assert (refusal.status, refusal.headers["connection"]) == (status, "close")
    assert refusal.error
    assert wire.at_end()


# Framing


def test_chunked_bodies_of_both_lanes(wire: Wire) -> None:
    head = "Transfer-Encoding: chunked"
    body = infer(3).partition(b"\r\n\r\n")[2]
    wire.send(request("POST", URL, chunked(body), head, length=False) + infer(4))
    wire.send(request("POST", "/v2/repository/index", chunked(b'{"ready": true}'), head, length=False))
    first, second, index = wire.answers(3)
    assert (value(first), value(second), [item["name"] for item in index.json]) == (3, 4, ["numbers"])


def test_trailers_are_read_and_dropped(wire: Wire) -> None:
    body = infer(3).partition(b"\r\n\r\n")[2]
    with_trailer = chunked(body)[:-2] + b"X-Trailer: " + b"t" * 20_000 + b"\r\n\r\n"
    wire.send(request("POST", URL, with_trailer, "Transfer-Encoding: chunked", length=False) + infer(4))
    assert [value(answer) for answer in wire.answers(2)] == [3, 4]


SMUGGLED = infer(666)
HEADS = {
    "both lengths": ["Content-Length: 5", "Transfer-Encoding: chunked"],
    "both the other way": ["Transfer-Encoding: chunked", "Content-Length: 5"],
    "two lengths": ["Content-Length: 5", "Content-Length: 6"],
    "the same length twice": ["Content-Length: 5", "Content-Length: 5"],
    "a list of lengths": ["Content-Length: 5, 5"],
    "a negative length": ["Content-Length: -5"],
    "a signed length": ["Content-Length: +5"],
    "a hexadecimal length": ["Content-Length: 0x5"],
    "a length that overflows": ["Content-Length: 18446744073709551621"],
    "an empty length": ["Content-Length: "],
    "a folded header": ["X-Folded: a", " Content-Length: 5"],
    "a space before the colon": ["Content-Length : 5"],
    "a bare LF": ["X-A: b\nContent-Length: 5"],
    "a bare CR": ["X-A: b\rContent-Length: 5"],
    "a NUL": ["X-A: b\0c"],
    "a name that is none": ["X(A): b"],
    "chunked not last": ["Transfer-Encoding: chunked, identity"],
    "an unknown coding": ["Transfer-Encoding: xchunked"],
    "a coding in disguise": ["Transfer-Encoding:\x0bchunked"],
}


@pytest.mark.parametrize("lines", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("url", [URL, "/v2/repository/index"])
def test_framing_that_two_readers_may_understand_differently_is_refused(wire: Wire, url: str, lines: list[str]) -> None:
    wire.send(request("POST", url, b"0\r\n\r\n" + SMUGGLED, *lines, length=False))
    answer = wire.answer()
    assert answer.status == 400
    assert "not a valid HTTP request" in answer.error
    assert answer.headers["connection"] == "close"
    assert wire.at_end()


@pytest.mark.parametrize("size", [b"-5", b"+5", b"0x5", b"5 5", b"ffffffffffffffffff", b"", b"g"])
def test_chunk_sizes_that_are_none_are_refused(wire: Wire, size: bytes) -> None:
    wire.send(request("POST", URL, size + b"\r\nhello\r\n0\r\n\r\n", "Transfer-Encoding: chunked", length=False))
    assert wire.answer().status == 400
    assert wire.at_end()


def test_bare_line_feeds_are_refused(wire: Wire) -> None:
    wire.send(infer(1).replace(b"\r\n", b"\n"))
    assert wire.answer().status == 400
    assert wire.at_end()


def test_empty_lines_before_a_request_are_skipped(wire: Wire) -> None:
    wire.send(b"\r\n" + infer(1) + b"\r\n\r\n" + infer(1) + infer(1))
    assert [value(answer) for answer in wire.answers(3)] == [1, 1, 1]


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200,  # TLS
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST " + URL.encode() + b" HTTP/3.0\r\n\r\n",
        b"POST " + URL.encode() + b"\r\n\r\n",
        b"BREW / HTTP/1.1\r\n\r\n",
        b"CONNECT numbers:80 HTTP/1.1\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_no_request_is_refused(wire: Wire, data: bytes) -> None:
    wire.send(data)
    answer = wire.answer()
    assert answer.status in (400, 405)
    assert answer.error
    assert wire.at_end()


def test_a_request_for_everything_is_harmless(wire: Wire) -> None:
    wire.send(b"OPTIONS * HTTP/1.1\r\nHost: test\r\n\r\n")
    assert 400 <= wire.answer().status < 500


@pytest.mark.parametrize("url", [URL, "/v2/repository/index"])
def test_an_upgrade_is_declined_and_the_request_answered(wire: Wire, url: str) -> None:
    """As Java's own client sends every first request; the body must not be read as a request."""
    lines = ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAA"]
    body = infer(5).partition(b"\r\n\r\n")[2]
    data = request("POST", url, body, *lines)
    head = data.index(b"\r\n\r\n") + 4
    wire.send(data + infer(6)).send(data[:head]).send(data[head:]).send(infer(7))
    first, second, third, fourth = wire.answers(4)
    assert (value(second), value(fourth)) == (6, 7)
    assert first.status == third.status == 200
    assert url != URL or value(first) == value(third) == 5


# Heads that are remembered


def test_a_remembered_head_is_not_taken_for_a_like_one(server: Server) -> None:
    with Wire(server.port) as wire:
        for _ in range(3):
            assert value(wire.send(infer(1)).answer()) == 1
        body = infer(1).partition(b"\r\n\r\n")[2]
        wire.send(request("POST", URL, body + b"   "))  # another length
        wire.send(request("POST", URL.replace("numbers", "numbers2"), body))
        wire.send(request("PUT", URL, body))
        wire.send(infer(1, "X-Request-ID: one")).send(infer(1, "X-Request-ID: two")).send(infer(1))
        longer, other, put, one, two, none = wire.answers(6)
        assert (value(longer), other.status, put.status) == (1, 404, 405)
        assert [answer.headers.get("x-request-id") for answer in (one, two, none)] == ["one", "two", None]
        wire.send(infer(1, "Connection: close"))
        assert wire.answer().headers["connection"] == "close"
        assert wire.at_end()


def test_a_head_of_the_other_lane_is_never_remembered_for_the_next(server: Server) -> None:
    """In one segment: the bytes that began it are not the head of the request that ended it."""
    with Wire(server.port) as wire:
        body = infer(9).partition(b"\r\n\r\n")[2]
        index = request("POST", "/v2/repository/index", b'{"ready": true}'.ljust(len(body)), "X-Only: here")
        for _ in range(3):
            wire.send(index + infer(9))
            listed, answer = wire.answers(2)
            assert isinstance(listed.json, list), listed
            assert value(answer) == 9


def test_the_limit_on_bodies_holds_for_remembered_heads(wire: Wire) -> None:
    for _ in range(3):
        with Wire(wire.sock.getpeername()[1]) as own:
            own.send(post(URL, infer(1).partition(b"\r\n\r\n")[2].ljust(MAX_BODY + 1)))
            assert own.answer().status == 413


# Limits


@pytest.mark.parametrize("url", [URL, "/v2/repository/index", "/v2/models/broken/infer"])
def test_a_declared_body_over_the_limit_is_refused_at_once(wire: Wire, url: str) -> None:
    wire.send(request("POST", url, b"", f"Content-Length: {MAX_BODY + 1}", length=False))
    answer = wire.answer()
    assert answer.status == 413
    assert str(MAX_BODY) in answer.error
    assert wire.at_end()


def test_a_body_over_the_limit_is_refused_instead_of_100(wire: Wire) -> None:
    wire.send(request("POST", URL, b"", f"Content-Length: {MAX_BODY + 1}", "Expect: 100-continue", length=False))
    assert wire.answer().status == 413


@pytest.mark.parametrize("url", [URL, "/v2/repository/index"])
def test_a_chunked_body_over_the_limit(wire: Wire, url: str) -> None:
    body = chunked(b" " * (2 * MAX_BODY), 500)
    wire.send(request("POST", url, body[: len(body) // 2 + 500], "Transfer-Encoding: chunked", length=False))
    answer = wire.answer()
    assert answer.status == 413
    assert str(MAX_BODY) in answer.error
    assert wire.at_end()


def test_one_request_gets_one_answer_even_if_its_body_goes_wrong_afterwards(wire: Wire) -> None:
    """A model that is not ready is answered for before the body is there."""
    wire.send(request("POST", "/v2/models/broken/infer", b"5\r\n", "Transfer-Encoding: chunked", length=False))
    assert wire.answer().status == 503
    wire.send(b"hello\r\nno chunk size\r\n")
    assert wire.at_end()


def test_a_body_of_exactly_the_limit_is_taken(wire: Wire) -> None:
    body = infer(1).partition(b"\r\n\r\n")[2].ljust(MAX_BODY)
    assert value(wire.send(post(URL, body)).answer()) == 1


def test_expect_100_continue(wire: Wire) -> None:
    data = infer(8, "Expect: 100-continue")
    head = data.index(b"\r\n\r\n") + 4
    for _ in range(2):
        assert wire.send(data[:head]).answer().status == 100
        assert value(wire.send(data[head:]).answer()) == 8


@pytest.mark.parametrize("url", [URL, "/livez"])
def test_headers_over_the_limit(wire: Wire, url: str) -> None:
    wire.send(request("POST", url, b"{}", *(f"X-{i}: {'v' * 100}" for i in range(100))))
    answer = wire.answer()
    assert answer.status == 431
    assert "8000" in answer.error
    assert wire.at_end()


def test_a_header_that_never_ends(wire: Wire) -> None:
    wire.send(b"POST /v2 HTTP/1.1\r\nX-Long: ")
    for _ in range(10):
        wire.send(b"x" * 4000)
    assert wire.answer().status == 431
    assert wire.at_end()


# HTTP/1.0, keep-alive, methods


def test_a_connection_is_kept_unless_asked_otherwise(wire: Wire) -> None:
    for i in range(3):
        answer = wire.send(infer(i)).answer()
        assert (value(answer), "connection" in answer.headers) == (i, False)
    wire.send(infer(3, "Connection: close") + infer(4))
    assert value(wire.answer()) == 3
    assert wire.at_end()


def test_http_1_0(wire: Wire) -> None:
    wire.send(infer(1).replace(b"HTTP/1.1", b"HTTP/1.0"))
    answer = wire.answer()
    assert (value(answer), answer.headers["connection"]) == (1, "close")
    assert wire.at_end()


def test_http_1_0_is_not_promised_a_kept_connection(wire: Wire) -> None:
    wire.send(infer(1, "Connection: keep-alive").replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert wire.answer().headers["connection"] in ("close", "keep-alive")


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_only_post_predicts(wire: Wire, method: str) -> None:
    answer = wire.send(request(method, URL)).answer(has_body=method != "HEAD")
    assert answer.status == 405
    assert answer.headers["allow"] == "POST"
    assert method == "HEAD" or "use POST" in answer.error
    assert value(wire.send(infer(1)).answer()) == 1


def test_head_of_a_page_has_no_body(wire: Wire) -> None:
    answer = wire.send(request("HEAD", "/v2")).answer(has_body=False)
    assert (answer.status, int(answer.headers["content-length"]) > 0) == (200, True)
    assert value(wire.send(infer(1)).answer()) == 1


@pytest.mark.parametrize(
    "url",
    [
        f"{URL}?",
        f"{URL}?a=b&c=%20",
        "/v2/models/%6eumbers/infer",
        "/v2/models/numbers/versions/1/infer",
        f"http://elsewhere:80{URL}",
    ],
)
def test_urls_that_mean_the_same(wire: Wire, url: str) -> None:
    assert value(wire.send(infer(1).replace(URL.encode(), url.encode(), 1)).answer()) == 1


@pytest.mark.parametrize("url", [URL + "/", URL.upper(), "/v2/models/numbers%2finfer2", "/v2/models/../infer", "//"])
def test_urls_that_mean_nothing(wire: Wire, url: str) -> None:
    assert wire.send(infer(1).replace(URL.encode(), url.encode(), 1)).answer().status in (307, 404)


def test_the_request_id_comes_back(wire: Wire) -> None:
    wire.send(infer(1, "X-Request-ID: abc-1") + post(URL, b"{", "x-request-id: abc-2"))
    wire.send(request("GET", "/nothing", b"", "X-REQUEST-ID: abc-3") + LIVE)
    assert [answer.headers.get("x-request-id") for answer in wire.answers(4)] == ["abc-1", "abc-2", "abc-3", None]


def test_server_timing_names_every_stage(wire: Wire) -> None:
    timing = wire.send(infer(1)).answer().headers["server-timing"]
    stages = dict(entry.split(";dur=") for entry in timing.split(", "))
    assert list(stages) == ["queue", "preprocess", "forward", "postprocess"]
    assert all(0 <= float(milliseconds) < 10_000 for milliseconds in stages.values())


# Slow, half-closed and vanishing clients


@pytest.mark.parametrize(
    "start",
    [b"PO", b"POST /v2 HTTP/1.1\r\nA: ", infer(1)[:-5], INDEX[:-1], post("/v2/models/gone/infer", b"12345")[:-1]],
    ids=["method", "header", "body", "body elsewhere", "body answered before"],
)
def test_a_request_that_does_not_arrive_is_given_up(impatient: Server, start: bytes) -> None:
    with quiet(impatient.log), Wire(impatient.port) as wire:
        wire.send(start)
        answer = wire.answer()
        if b"gone" in start:
            assert answer.status == 404
        else:
            assert answer.status == 408
            assert "0.5 s" in answer.error
        assert wire.at_end()


def test_a_dribbled_request_is_given_up(impatient: Server) -> None:
    """Each byte comes in time, the whole does not."""
    with Wire(impatient.port) as wire:
        wire.sock.settimeout(0.02)
        wire.send(request("POST", URL, b"", "Content-Length: 1000", length=False))
        read = b""
        for _ in range(900):
            try:
                wire.send(b" ")
                read = wire.sock.recv(4096)
            except TimeoutError:
                continue
            except OSError:
                break
            if read:
                break
        assert read.startswith(b"HTTP/1.1 408 ")


def test_an_idle_connection_is_closed(impatient: Server) -> None:
    with Wire(impatient.port) as never_used, Wire(impatient.port) as used:
        assert value(used.send(infer(1)).answer()) == 1
        assert used.at_end()
        assert never_used.at_end()


def test_a_slow_sender_harms_nobody(server: Server) -> None:
    with Wire(server.port) as slow:
        slow.send(infer(1)[:-1])
        assert value(ask(server.port, infer(2))) == 2
        assert value(slow.send(infer(1)[-1:]).answer()) == 1


def test_a_half_closed_client_is_answered(server: Server) -> None:
    for data in (infer(1), LIVE, INDEX, infer(1) + LIVE, LIVE + infer(1)) * 10:
        with quiet(server.log), Wire(server.port) as wire:
            wire.send(data).finish()
            for _ in range(data.count(b"HTTP/1.1")):
                assert wire.answer().status == 200
            assert wire.at_end()


@pytest.mark.parametrize("data", [b"POST", infer(1)[:-1], INDEX[:-1], chunked(b"x")[:3]])
def test_half_a_request_and_then_no_more(server: Server, data: bytes) -> None:
    with quiet(server.log), Wire(server.port) as wire:
        wire.send(data).finish()
        while not wire.at_end():
            assert wire.answer().status == 400


@pytest.mark.parametrize("data", [infer(1), LIVE, INDEX[:-1], infer(1)[:-1], LIVE * 50 + infer(1) * 50, b"rubbish"])
def test_a_client_that_vanishes_leaves_no_trace(server: Server, data: bytes) -> None:
    with quiet(server.log):
        for _ in range(20):
            with Wire(server.port) as wire:
                wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # close by reset
                wire.send(data)
        assert value(ask(server.port, infer(2))) == 2
        assert eventually(lambda: sample(server.port, "forwardpass_queue_rows", model="numbers") == 0)


def memory(pid: int) -> int:
    """Bytes of memory that a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


MANY = {"inputs": [{"name": "x", "shape": [400, 2], "datatype": "INT64", "data": [7] * 800}]}


@pytest.mark.parametrize("data", [post(URL, MANY), request("GET", "/openapi.json")], ids=["fast lane", "other lane"])
def test_a_client_that_does_not_read_is_not_read_from_and_then_dropped(impatient: Server, data: bytes) -> None:
    """Its requests fill the system's buffers, not the server's memory; nobody else waits."""
    before = memory(impatient.pid)
    with quiet(impatient.log), Wire(impatient.port, receive_buffer=4096) as wire:
        wire.sock.settimeout(0.1)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            keep_sending(wire, data, impatient.port)
        assert memory(impatient.pid) - before < 64 << 20


def keep_sending(wire: Wire, data: bytes, port: int) -> None:
    """The same request without end; whenever nothing more goes out, somebody else asks."""
    left, end = b"", monotonic() + TIMEOUT
    while monotonic() < end:
        left = left or data * (1 + 200_000 // len(data))
        try:
            left = left[wire.sock.send(left) :]
        except TimeoutError:
            assert value(ask(port, infer(5))) == 5
