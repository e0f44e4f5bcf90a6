"""Requests that two readers may understand differently: refused, the connection closed, nothing after answered.

Each is sent three ways: to the fast lane, to the ASGI lane, and behind good requests in the same
segment. Behind it always comes a whole valid request, which must never be answered.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from tests import artifacts
from tests.server.http.raw import Answer, Wire, post, quiet, request
from tests.server.process import Server, running

FAST, OTHER = "/v2/models/numbers/infer", "/v2/repository/index"
PLAIN = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "INT64", "data": [5, 6]}]}
BODY = json.dumps(PLAIN).encode()
LENGTH = b"Content-Length: %d" % len(BODY)
GOOD = post(FAST, PLAIN)
LIVE = request("GET", "/livez")
LANES = pytest.mark.parametrize("url", [FAST, OTHER], ids=["fast", "asgi"])
REFUSALS = {400, 405, 413, 414, 431, 501, 505}
CHUNKED = b"Transfer-Encoding: chunked"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("models")
    artifacts.identity(folder / "numbers" / "model.onnx", "INT64")
    with running([folder / "numbers"]) as server:
        yield server


@pytest.fixture
def wire(server: Server) -> Iterator[Wire]:
    with quiet(server.log), Wire(server.port) as wire:
        yield wire
    with Wire(server.port) as other:
        assert other.send(GOOD).answer().status == 200  # whatever it was, the others are served on


def raw(url: str, *lines: bytes, body: bytes = b"", host: bytes = b"Host: test") -> bytes:
    """A POST with exactly these header lines, and bytes behind its head."""
    head = [b"POST %b HTTP/1.1" % url.encode(), *([host] if host else []), *lines]
    return b"\r\n".join([*head, b"", b""]) + body


def refused(wire: Wire) -> Answer:
    """The next answer is the last, and says why."""
    answer = wire.answer()
    assert answer.status in REFUSALS, answer
    assert answer.headers["connection"] == "close"
    assert answer.error
    assert wire.at_end()
    return answer


def refused_everywhere(wire: Wire, data: bytes) -> None:
    """By itself, and behind requests of both lanes that came in the same segment."""
    wire.send(data + GOOD)
    refused(wire)
    with Wire(wire.sock.getpeername()[1]) as other:
        other.send(GOOD + LIVE + GOOD + data + GOOD)
        assert [answer.status for answer in other.answers(3)] == [200, 200, 200]
        refused(other)


LENGTHS = {
    "signed": b"+5",
    "negative": b"-5",
    "hexadecimal": b"0x5",
    "underscore": b"5_0",
    "space inside": b"5 0",
    "fraction": b"5.0",
    "exponent": b"5e0",
    "list": b"5, 6",
    "list of the same": b"5, 5",
    "trailing comma": b"5,",
    "leading comma": b",5",
    "parameter": b"5;a=b",
    "quoted": b'"5"',
    "wide digit": b"\xef\xbc\x95",
    "superscript": b"\xb2",
    "word": b"five",
    "empty": b"",
    "blank": b"   ",
    "NUL": b"5\0",
    "vertical tab": b"5\x0b",
    "form feed before": b"\x0c5",
    "overflows": b"18446744073709551621",
    "overflows far": b"9" * 400,
    "larger than any limit": b"9223372036854775807",
}


@LANES
@pytest.mark.parametrize("value", LENGTHS.values(), ids=LENGTHS)
def test_lengths_that_are_none(wire: Wire, url: str, value: bytes) -> None:
    refused_everywhere(wire, raw(url, b"Content-Length: " + value, body=b"hello"))


FRAMING: dict[str, list[bytes]] = {
    "two lengths": [b"Content-Length: 5", b"Content-Length: 6"],
    "the same length twice": [b"Content-Length: 5", b"Content-Length: 5"],
    "two lengths in unlike case": [b"Content-Length: 5", b"content-length: 6"],
    "length and chunked": [b"Content-Length: 5", CHUNKED],
    "chunked and length": [CHUNKED, b"Content-Length: 5"],
    "no length and chunked": [b"Content-Length: 0", CHUNKED],
    "chunked with another between": [CHUNKED, b"X-A: b", b"Content-Length: 5"],
    "unknown coding": [b"Transfer-Encoding: xchunked"],
    "coding cut short": [b"Transfer-Encoding: chunke"],
    "coding with a tail": [b"Transfer-Encoding: chunkedx"],
    "identity": [b"Transfer-Encoding: identity"],
    "gzip": [b"Transfer-Encoding: gzip"],
    "empty coding": [b"Transfer-Encoding: "],
    "blank coding": [b"Transfer-Encoding:   "],
    "chunked is not last": [b"Transfer-Encoding: chunked, identity"],
    "compressed, then chunked": [b"Transfer-Encoding: gzip, chunked"],
    "identity, then chunked": [b"Transfer-Encoding: identity, chunked"],
    "chunked twice in a list": [b"Transfer-Encoding: chunked, chunked"],
    "chunked twice": [CHUNKED, CHUNKED],
    "chunked, then identity": [CHUNKED, b"Transfer-Encoding: identity"],
    "identity line, then chunked": [b"Transfer-Encoding: identity", CHUNKED],
    "trailing comma": [b"Transfer-Encoding: chunked,"],
    "leading comma": [b"Transfer-Encoding: ,chunked"],
    "quoted": [b'Transfer-Encoding: "chunked"'],
    "parameter": [b"Transfer-Encoding: chunked;q=1"],
    "vertical tab before": [b"Transfer-Encoding:\x0bchunked"],
    "form feed after": [b"Transfer-Encoding: chunked\x0c"],
    "NUL after": [b"Transfer-Encoding: chunked\0"],
    "bare CR before": [b"Transfer-Encoding:\rchunked"],
    "bare LF before": [b"Transfer-Encoding:\n chunked"],
    "folded": [b"Transfer-Encoding:", b" chunked"],
    "space before the colon": [b"Transfer-Encoding : chunked"],
    "tab before the colon": [b"Transfer-Encoding\t: chunked"],
    "length with a space before the colon": [b"Content-Length : 5"],
    "folded length": [b"X-Folded: a", b" Content-Length: 5"],
}


@LANES
@pytest.mark.parametrize("lines", FRAMING.values(), ids=FRAMING)
@pytest.mark.parametrize("body", [b"0\r\n\r\n", b""], ids=["chunks", "bare"])
def test_framing_that_can_be_read_in_two_ways(wire: Wire, url: str, lines: list[bytes], body: bytes) -> None:
    refused_everywhere(wire, raw(url, *lines, body=body))


HEADS: dict[str, list[bytes]] = {
    "NUL in a value": [b"X-A: b\0c"],
    "NUL in a name": [b"X\0A: b"],
    "control character in a value": [b"X-A: b\x01c"],
    "backspace in a value": [b"X-A: b\x08c"],
    "delete in a value": [b"X-A: b\x7fc"],
    "vertical tab in a value": [b"X-A: b\x0bc"],
    "control character in a name": [b"X\x01A: b"],
    "space in a name": [b"X A: b"],
    "tab before the colon": [b"X-A\t: b"],
    "space before the colon": [b"X-A : b"],
    "no colon": [b"X-A"],
    "no name": [b": b"],
    "bracket in a name": [b"X(A): b"],
    "not ASCII in a name": [b"X-\xe4: b"],
    "folded": [b"X-A: b", b" c"],
    "folded by tab": [b"X-A: b", b"\tc"],
    "blank first line": [b" X-A: b"],
    "bare LF between headers": [b"X-A: b\nX-C: d"],
    "bare CR between headers": [b"X-A: b\rX-C: d"],
    "bare CR at the end": [b"X-A: b\r"],
    "bare LF hides a length": [b"X-A: b\nContent-Length: 99"],
    "bare CR hides a length": [b"X-A: b\rContent-Length: 99"],
    "another Host": [b"Host: other"],
    "the same Host": [b"host: test"],
}


@LANES
@pytest.mark.parametrize("lines", HEADS.values(), ids=HEADS)
def test_headers_that_are_none(wire: Wire, url: str, lines: list[bytes]) -> None:
    refused_everywhere(wire, raw(url, *lines, LENGTH, body=BODY))


@LANES
@pytest.mark.parametrize(
    "host", [b"", b"Host: a b", b"Host: a/b", b"Host: a, b", b"Host: me@a", b"Host: a:b:c", b"Host: a?b"]
)
def test_a_request_for_no_host(wire: Wire, url: str, host: bytes) -> None:
    refused_everywhere(wire, raw(url, LENGTH, body=BODY, host=host))


ENDINGS = {
    "LF alone": lambda data: data.replace(b"\r\n", b"\n"),
    "LF after the request line": lambda data: data.replace(b"HTTP/1.1\r\n", b"HTTP/1.1\n"),
    "CR after the request line": lambda data: data.replace(b"HTTP/1.1\r\n", b"HTTP/1.1\r"),
    "LF at the end of the head": lambda data: data.replace(b"\r\n\r\n", b"\r\n\n"),
    "LF before the end of the head": lambda data: data.replace(b"\r\n\r\n", b"\n\r\n"),
    "two LF": lambda data: data.replace(b"\r\n\r\n", b"\n\n"),
    "two CR": lambda data: data.replace(b"\r\n\r\n", b"\r\r\n\n"),
    "CR and space": lambda data: data.replace(b"\r\n\r\n", b"\r\n \r\n\r\n"),
    "LF after Host": lambda data: data.replace(b"Host: test\r\n", b"Host: test\n"),
    "CR CR LF after Host": lambda data: data.replace(b"Host: test\r\n", b"Host: test\r\r\n"),
}


@LANES
@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
def test_lines_that_do_not_end_in_crlf(wire: Wire, url: str, ending: object) -> None:
    assert callable(ending)
    refused_everywhere(wire, ending(raw(url, LENGTH, body=BODY)))


LINES = {
    "HTTP/0.9": b"POST %b",
    "HTTP/0.9 by number": b"POST %b HTTP/0.9",
    "HTTP/1.2": b"POST %b HTTP/1.2",
    "HTTP/2.0": b"POST %b HTTP/2.0",
    "HTTP/3.0": b"POST %b HTTP/3.0",
    "HTTP/11.1": b"POST %b HTTP/11.1",
    "HTTP/1.10": b"POST %b HTTP/1.10",
    "HTTP/1": b"POST %b HTTP/1",
    "small letters": b"POST %b http/1.1",
    "ICE": b"SOURCE %b ICE/1.0",
    "tabs": b"POST\t%b\tHTTP/1.1",
    "a word more": b"POST %b HTTP/1.1 HTTP/1.1",
    "a space in the URL": b"POST %b x HTTP/1.1",
    "a space behind": b"POST %b HTTP/1.1 ",
    "a space before": b" POST %b HTTP/1.1",
    "a NUL in the URL": b"POST %b\0 HTTP/1.1",
    "not ASCII in the URL": b"POST %b\xe4 HTTP/1.1",
    "a control character in the URL": b"POST %b\x01 HTTP/1.1",
    "small method": b"post %b HTTP/1.1",
    "unknown method": b"SMUGGLE %b HTTP/1.1",
    "no method": b"%b HTTP/1.1",
    "method with a colon": b"POST: %b HTTP/1.1",
    "no slash": b"POST x%b HTTP/1.1",
}


@LANES
@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_request_lines_that_are_none(wire: Wire, url: str, line: bytes) -> None:
    head = line % url.encode()
    refused_everywhere(wire, b"%b\r\nHost: test\r\nContent-Length: %d\r\n\r\n%b" % (head, len(BODY), BODY))


@LANES
def test_what_came_before_a_body_that_goes_wrong_is_answered_first(wire: Wire, url: str) -> None:
    """The refusal must not overtake an answer that is still being made, or it would be taken for that one."""
    for before in ([LIVE], [LIVE, GOOD], [GOOD, LIVE], [LIVE, LIVE]):
        with Wire(wire.sock.getpeername()[1]) as other:
            other.send(b"".join(before) + raw(url, CHUNKED, body=b"2\r\n{}\r\nrubbish\r\n") + GOOD)
            assert [answer.status for answer in other.answers(len(before))] == [200] * len(before)
            refused(other)


def test_the_preface_of_http_2(wire: Wire) -> None:
    refused_everywhere(wire, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")


def test_connect(wire: Wire) -> None:
    refused_everywhere(wire, b"CONNECT test:80 HTTP/1.1\r\nHost: test:80\r\n\r\n")


CHUNKS = {
    "negative": b"-5\r\nhello\r\n0\r\n\r\n",
    "signed": b"+5\r\nhello\r\n0\r\n\r\n",
    "0x": b"0x5\r\nhello\r\n0\r\n\r\n",
    "underscore": b"0_5\r\nhello\r\n0\r\n\r\n",
    "space inside": b"0 5\r\nhello\r\n0\r\n\r\n",
    "space before": b" 5\r\nhello\r\n0\r\n\r\n",
    "no number": b"\r\nhello\r\n0\r\n\r\n",
    "no digit": b"g\r\nhello\r\n0\r\n\r\n",
    "overflows": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    "overflows far": b"f" * 300 + b"\r\nhello\r\n0\r\n\r\n",
    "LF after the size": b"5\nhello\r\n0\r\n\r\n",
    "CR after the size": b"5\rhello\r\n0\r\n\r\n",
    "LF in an extension": b"5;a\nhello\r\n0\r\n\r\n",
    "CR in an extension": b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    "NUL in an extension": b"5;a\0\r\nhello\r\n0\r\n\r\n",
    "LF after the data": b"5\r\nhello\n0\r\n\r\n",
    "nothing after the data": b"5\r\nhello0\r\n\r\n",
    "other bytes after the data": b"5\r\nhelloXX0\r\n\r\n",
    "data longer than said": b"5\r\nhello!\r\n0\r\n\r\n",
    "LF after the last size": b"0\n\r\n",
    "LF at the very end": b"0\r\n\n",
    "space in a trailer's name": b"0\r\nX A: b\r\n\r\n",
    "LF after a trailer": b"0\r\nX-A: b\n\r\n",
    "a length in a trailer": b"0\r\nContent-Length: 5\r\n\r\n",
    "NUL in a trailer": b"0\r\nX-A: \0\r\n\r\n",
}


@LANES
@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)
def test_chunks_that_are_none(wire: Wire, url: str, chunks: bytes) -> None:
    refused_everywhere(wire, raw(url, CHUNKED, body=chunks))


@LANES
def test_more_headers_than_anybody_sends(wire: Wire, url: str) -> None:
    refused_everywhere(wire, raw(url, *[b"a:"] * 3000, LENGTH, body=BODY))
    with Wire(wire.sock.getpeername()[1]) as other:
        assert other.send(raw(url, b"X-Long: " + b"a" * 100_000)).answer().status == 431


# What is legal, though it looks like the above


@pytest.mark.parametrize(
    "line",
    [
        b"Content-Length:%d",
        b"Content-Length:\t%d\t",
        b"Content-Length:   %d   ",
        b"content-length: 00%d",
        b"CONTENT-LENGTH: %d",
    ],
)
def test_lengths_written_in_another_way(wire: Wire, line: bytes) -> None:
    for _ in range(2):
        wire.send(raw(FAST, line % len(BODY), body=BODY) + raw(OTHER, line % len(BODY), body=BODY) + GOOD)
        assert [answer.status for answer in wire.answers(3)] == [200, 200, 200]


@pytest.mark.parametrize("value", [b"chunked", b"Chunked", b"CHUNKED", b"\tchunked", b"chunked  "])
@pytest.mark.parametrize("extension", [b"", b";a=b", b';a="b"'])
def test_chunked_written_in_another_way(wire: Wire, value: bytes, extension: bytes) -> None:
    chunks = b"%X%b\r\n%b\r\n000\r\nX-Trailer: 99\r\n\r\n" % (len(BODY), extension, BODY)
    for url in (FAST, OTHER):
        wire.send(raw(url, b"Transfer-Encoding:" + value, body=chunks) + GOOD)
        assert [answer.status for answer in wire.answers(2)] == [200, 200]


def test_headers_that_only_look_like_framing(wire: Wire) -> None:
    wire.send(raw(FAST, b"Content_Length: 5", b"X-Content-Length: 9", LENGTH, body=BODY) + GOOD)
    assert [answer.status for answer in wire.answers(2)] == [200, 200]


@pytest.mark.parametrize("host", [b"Host:", b"Host: [::1]:8000", b"Host: a.b-c_d:80", b"HOST: 127.0.0.1"])
def test_hosts_that_are_one(wire: Wire, host: bytes) -> None:
    wire.send(raw(FAST, LENGTH, body=BODY, host=host) + GOOD)
    assert [answer.status for answer in wire.answers(2)] == [200, 200]


def test_a_body_where_none_is_wanted_is_no_request(wire: Wire) -> None:
    for method, url in (("GET", "/livez"), ("DELETE", "/livez"), ("GET", FAST), ("GET", "/nothing")):
        wire.send(request(method, url, GOOD) + GOOD)
        first, second = wire.answers(2)
        assert first.status == (200 if (method, url) == ("GET", "/livez") else 405 if url != "/nothing" else 404)
        assert second.json["outputs"][0]["data"] == [5, 6]


def test_very_many_upgrades_in_one_segment(wire: Wire) -> None:
    """Each is read again as what it is without; that must not cost a level of anything."""
    asked = request("GET", "/livez", b"", "Connection: Upgrade", "Upgrade: h2c")
    wire.send(asked * 900 + GOOD)
    assert [answer.status for answer in wire.answers(901)] == [200] * 901


# The length of the JSON before raw tensors: the message is whole, so the connection goes on

SPLITS = [b"-1", b"+5", b"0x5", b"5_0", b"99999", b"9" * 400, b"", b"five", b"5, 5", b"\xef\xbc\x95", b"\xb2"]


@pytest.mark.parametrize("value", SPLITS)
def test_an_inference_header_length_that_is_none(wire: Wire, value: bytes) -> None:
    head = b"Inference-Header-Content-Length: " + value
    wire.send(raw(FAST, head, LENGTH, body=BODY) + GOOD)
    answer, good = wire.answers(2)
    assert (answer.status, good.status) == (400, 200)
    assert "Inference-Header-Content-Length" in answer.error


def test_two_inference_header_lengths(wire: Wire) -> None:
    for second in (b"%d" % len(BODY), b"5"):
        heads = [b"Inference-Header-Content-Length: " + value for value in (second, b"%d" % len(BODY))]
        wire.send(raw(FAST, *heads, LENGTH, body=BODY))
        answer = wire.answer()
        assert answer.status == 400
        assert "Inference-Header-Content-Length" in answer.error
