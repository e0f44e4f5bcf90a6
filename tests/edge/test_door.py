"""The agent's HTTP door: the server's answers byte for byte, and no client that can harm another."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import json
import os
import signal
import socket
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from tests.edge.devices import EXAMPLES, AgentProcess, Factory, agent, stop, write_settings
from tests.engine.workers import HANGS, REFUSED, children, fateful_model, needs_proc
from tests.server.http.raw import Answer, Wire, ask, chunked, eventually, post, request
from tests.server.process import Server, running

from forwardpass.edge import connection
from forwardpass.edge.door import Door
from forwardpass.edge.endpoints import Endpoints
from forwardpass.edge.home import Home
from forwardpass.edge.settings import AgentSettings
from forwardpass.edge.status import bind_unix
from forwardpass.edge.status_text import show
from forwardpass.server.dataplane import DataPlane
from forwardpass.server.records import Recorder

pytestmark = needs_proc

MOST = 8  # connections
LIMITS = {"max_body_bytes": 20_000, "receive_timeout": 0.5, "keep_alive": 1.0, "max_connections": MOST}
PREDICT = "/v1/models/fateful:predict"


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentProcess]:
    """An agent with tight limits, of a model that gives what it gets."""
    folder = tmp_path_factory.mktemp("device")
    factory, home = Factory(folder), Home(folder / "home")
    bundle = factory.bundle(fateful_model(folder / "fateful"))
    write_settings(home, LIMITS)
    with agent(home, "--bundle", str(bundle), "--trust", str(factory.trust)) as made:
        yield made


@pytest.fixture
def stopping(tmp_path: Path) -> Iterator[AgentProcess]:
    """An agent of its own, which a test may stop."""
    factory, home = Factory(tmp_path), Home(tmp_path / "home")
    bundle = factory.bundle(fateful_model(tmp_path / "fateful"))
    with agent(home, "--bundle", str(bundle), "--trust", str(factory.trust)) as made:
        yield made


def predict(*rows: Sequence[float], headers: Sequence[str] = ()) -> bytes:
    return post(PREDICT, {"instances": rows}, *headers)


def test_predictions_on_one_connection(device: AgentProcess) -> None:
    with Wire(device.port) as wire:
        for number in range(3):
            assert wire.send(predict([number, 1.0])).answer().json == {"predictions": [[number, 1.0]]}


def test_pipelined_requests_are_answered_in_their_order(device: AgentProcess) -> None:
    with Wire(device.port) as wire:
        wire.send(b"".join(predict([float(n), 0.0]) for n in range(20)) + request("GET", "/livez"))
        assert [answer.json["predictions"][0][0] for answer in wire.answers(20)] == list(range(20))
        assert wire.answer().status == 200


def test_a_body_may_come_in_chunks_compressed_or_after_a_go_ahead(device: AgentProcess) -> None:
    body = json.dumps({"instances": [[1.0, 2.0]]}).encode()
    with Wire(device.port) as wire:
        head = request("POST", PREDICT, b"", "Transfer-Encoding: chunked", length=False)
        assert wire.send(head + chunked(body)).answer().json == {"predictions": [[1.0, 2.0]]}
        packed = post(PREDICT, gzip.compress(body), "Content-Encoding: gzip")
        assert wire.send(packed).answer().json == {"predictions": [[1.0, 2.0]]}
        wire.send(request("POST", PREDICT, b"", f"Content-Length: {len(body)}", "Expect: 100-continue", length=False))
        assert wire.answer().status == 100
        assert wire.send(body).answer().json == {"predictions": [[1.0, 2.0]]}


@pytest.mark.parametrize("size", [20_001, 10**12])
def test_a_body_that_is_announced_too_large_is_refused_unread(device: AgentProcess, size: int) -> None:
    with Wire(device.port) as wire:
        answer = wire.send(request("POST", PREDICT, b"", f"Content-Length: {size}", length=False)).answer()
        assert answer.status == 413
        assert "20000 bytes" in answer.error
        assert answer.headers["connection"] == "close"


def test_a_body_that_turns_out_too_large_is_refused(device: AgentProcess) -> None:
    with Wire(device.port) as wire:
        wire.send(request("POST", PREDICT, b"", "Transfer-Encoding: chunked", length=False) + chunked(b"x" * 30_000))
        assert wire.answer().status == 413
    bomb = gzip.compress(b" " * 10_000_000)
    assert ask(device.port, post(PREDICT, bomb, "Content-Encoding: gzip")).status == 413


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64 + b"\r\n\r\n",
    ],
)
def test_what_is_no_request_is_refused(device: AgentProcess, data: bytes) -> None:
    with Wire(device.port) as wire:
        answer = wire.send(data).answer()
        assert answer.status == 400
        assert "not a valid HTTP request" in answer.error


def test_headers_without_end_are_refused(device: AgentProcess) -> None:
    with Wire(device.port) as wire:
        wire.send(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 100_000)
        assert wire.answer().status == 431


@pytest.mark.slow
def test_a_request_that_does_not_arrive_is_given_up(device: AgentProcess) -> None:
    with Wire(device.port) as wire:
        wire.send(request("POST", PREDICT, b"", "Content-Length: 100", length=False) + b"{")
        assert wire.answer().status == 408
    with Wire(device.port) as wire:
        wire.send(b"GET /livez HT")
        assert wire.answer().status == 408
    with Wire(device.port) as wire:
        assert wire.at_end(), "one that says nothing at all is closed"


def test_more_connections_than_allowed_are_refused(device: AgentProcess) -> None:
    wires = [Wire(device.port) for _ in range(MOST)]
    try:
        for wire in wires:
            assert wire.send(request("GET", "/livez")).answer().status == 200
        with Wire(device.port) as one_more:
            answer = one_more.answer()
            assert answer.status == 503
            assert answer.headers["retry-after"] == "1"
    finally:
        for wire in wires:
            wire.sock.close()
    eventually(lambda: ask(device.port, request("GET", "/livez")).status == 200)


def test_a_client_that_sends_no_more_is_still_answered(device: AgentProcess) -> None:
    with Wire(device.port) as wire:
        wire.send(predict([1.0, 2.0])).finish()
        assert wire.answer().json == {"predictions": [[1.0, 2.0]]}
        assert wire.at_end()


def test_a_client_that_leaves_is_not_waited_for(device: AgentProcess) -> None:
    """What it asked for does not run when its turn comes, and others are answered."""

    def cancelled() -> int:
        text = ask(device.port, request("GET", "/metrics")).body.decode()
        return sum(int(line.rpartition(" ")[2]) for line in text.splitlines() if 'outcome="cancelled"' in line)

    before = cancelled()
    (worker,) = children(device.process.pid)
    wires = [Wire(device.port) for _ in range(4)]
    wires[0].send(predict([HANGS, 0.0]))
    for _ in range(3):  # turns of its loop: what came first has left for the worker then, by itself
        assert ask(device.port, request("GET", "/livez")).status == 200
    for wire in wires[1:]:
        wire.send(predict([1.0, 0.0]))
    eventually(lambda: _metric(device, "forwardpass_queue_rows") == 3)
    for wire in wires:
        wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # leave with a reset
        wire.sock.close()
    eventually(lambda: cancelled() == before + 4)
    os.kill(worker, signal.SIGKILL)  # what it ran hangs for ever
    assert ask(device.port, predict([1.0, 2.0])).json == {"predictions": [[1.0, 2.0]]}


def _metric(device: AgentProcess, name: str) -> float:
    """The sum of a metric's samples."""
    text = ask(device.port, request("GET", "/metrics")).body.decode()
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name))


def test_answers_that_are_not_read_hold_up_nobody(device: AgentProcess) -> None:
    with Wire(device.port, receive_buffer=4096) as slow:
        slow.send(request("GET", "/metrics") * 200)
        for _ in range(5):
            assert ask(device.port, request("GET", "/livez")).status == 200


def test_errors_of_the_model_have_their_status(device: AgentProcess) -> None:
    assert ask(device.port, predict([REFUSED, 0.0])).status == 400
    assert ask(device.port, post("/v1/models/fatefull:predict", {})).status == 404
    assert "fateful" in ask(device.port, post("/v2/models/fatefull/infer", {})).error


def test_other_methods_and_places_are_told(device: AgentProcess) -> None:
    with Wire(device.port) as wire:
        assert wire.send(request("PUT", "/status", b"x", "Content-Length: 1", length=False)).answer().status == 405
        assert wire.send(request("POST", "/status")).answer().status == 405
        assert "looks for no updates" in wire.send(request("POST", "/check")).answer().error
        assert "nothing at /nothing" in wire.send(request("GET", "/nothing")).answer().error
        answer = wire.send(request("HEAD", "/status")).answer(has_body=False)
        assert (answer.status, int(answer.headers["content-length"]) > 100) == (200, True)
        assert wire.send(request("GET", "/livez")).answer().status == 200


def test_status_and_metrics_are_there(device: AgentProcess) -> None:
    status = ask(device.port, request("GET", "/status")).json
    assert (status["model"], status["ready"], status["slot"]) == ("fateful", True, "a")
    text = ask(device.port, request("GET", "/metrics")).body.decode()
    assert 'forwardpass_model_ready{model="fateful",version="1"} 1.0' in text
    assert 'forwardpass_agent_info{model="fateful",version="1",slot="a",target="' in text
    assert "model       fateful version 1 (slot a), ready" in show(status)


# The same as the server


@pytest.fixture(scope="module", params=["digits", pytest.param("fraud", marks=pytest.mark.slow)])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Any, str]]:
    folder, model = tmp_path_factory.mktemp("pair"), EXAMPLES / request.param
    factory, home = Factory(folder), Home(folder / "home")
    with (
        running([model]) as server,
        agent(home, "--bundle", str(factory.bundle(model)), "--trust", str(factory.trust)) as made,
    ):
        yield server, made, request.param


def questions(name: str) -> Iterator[bytes]:
    """Requests good and bad to a model of either kind."""
    yield from (request("GET", url) for url in ("/livez", "/readyz", "/ping", "/v2", "/v2/health/live", "/v1/models"))
    yield from (request("GET", f"/v2/models/{name}{rest}") for rest in ("", "/ready", "/config", "/versions/1"))
    yield from (request("GET", url) for url in (f"/v1/models/{name}", "/v2/health/ready", "/v2/models/none"))
    for body in (b"", b"{", b"[]", b'{"instances": 1}', b'{"instances": []}', b'{"instances": [{"no": 1}]}', b"\xff"):
        yield post(f"/v1/models/{name}:predict", body)
        yield post(f"/v2/models/{name}/infer", body)
    yield post(f"/v2/models/{name}/infer", {"inputs": [{"name": "no", "shape": [1], "datatype": "FP32", "data": [1]}]})
    yield post(f"/v2/models/{name}/versions/7/infer", {})
    yield post("/v1/models/none:predict", {})
    yield from _digits(name) if name == "digits" else _rows(name)


def _digits(name: str) -> Iterator[bytes]:
    image = (EXAMPLES / "digits" / "sample.png").read_bytes()
    yield post(f"/v1/models/{name}:predict", image, "Content-Type: image/png")
    yield post(f"/v1/models/{name}:predict?x=1", image, "Content-Type: image/png", "X-Request-ID: 17")
    yield post("/invocations", image, "Content-Type: image/png")
    yield post(f"/v1/models/{name}:predict", b"no image", "Content-Type: image/png")
    rows = [{"b64": base64.b64encode(image).decode()}]
    yield post(f"/v1/models/{name}:predict", {"instances": rows * 40}, "Accept-Encoding: gzip")
    yield post(f"/v1/models/{name}:predict", gzip.compress(json.dumps({"instances": rows}).encode()),
               "Content-Encoding: gzip")  # fmt: skip
    yield post(f"/v1/models/{name}:predict", b"x", "Content-Encoding: br")
    for outputs in (
        [],
        [{"name": "label", "parameters": {"binary_data": True}}, {"name": "probability"}],
        [{"name": "n"}],
    ):
        yield _binary(name, len(image).to_bytes(4, "little") + image, outputs)
    yield _binary(name, b"short", [])


def _binary(name: str, raw: bytes, outputs: list[Any]) -> bytes:
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(raw)}}
    said = {"id": "an-id", "inputs": [tensor], **({"outputs": outputs} if outputs else {})}
    header = json.dumps(said).encode()
    return post(f"/v2/models/{name}/infer", header + raw, f"Inference-Header-Content-Length: {len(header)}")


def _rows(name: str) -> Iterator[bytes]:
    sample = json.loads((EXAMPLES / name / "sample.json").read_text())
    yield post(f"/v1/models/{name}:predict", sample)
    yield post(f"/v1/models/{name}:predict", {"instances": sample["instances"] * 50})


def test_answers_are_the_servers_byte_for_byte(pair: tuple[Server, AgentProcess, str]) -> None:
    server, device, name = pair
    for data in questions(name):
        expected, got = ask(server.port, data), ask(device.port, data)
        assert _same(got) == _same(expected), data[:300]


def _same(answer: Answer) -> tuple[int, bytes, dict[str, str]]:
    """What must be equal: all but times, and the address of whoever answers."""
    headers = {name: value for name, value in answer.headers.items() if name not in ("date", "server-timing")}
    body = answer.body
    if headers.get("content-encoding") == "gzip":
        body, headers["content-length"] = gzip.decompress(body), ""
    return answer.status, body, headers


def test_binary_tensors_come_back_as_the_server_sends_them(device: AgentProcess) -> None:
    rows = np.arange(8, dtype=np.float32).reshape(4, 2)
    tensor = {"name": "x", "shape": [4, 2], "datatype": "FP32", "parameters": {"binary_data_size": rows.nbytes}}
    header = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    for _ in range(2):  # the second time the header is known
        length = f"Inference-Header-Content-Length: {len(header)}"
        answer = ask(device.port, post("/v2/models/fateful/infer", header + rows.tobytes(), length))
        split = int(answer.headers["inference-header-content-length"])
        assert answer.body[split:] == rows.tobytes()


def test_the_door_is_on_localhost_alone(device: AgentProcess) -> None:
    assert device.status["address"].startswith("http://127.0.0.1:")
    listening = Path(f"/proc/{device.process.pid}/net/tcp").read_text()
    assert f"0100007F:{device.port:04X}" in listening
    assert f"00000000:{device.port:04X}" not in listening


# Its end


def test_connections_that_idle_are_closed_without_a_word_in_the_log(stopping: AgentProcess) -> None:
    with Wire(stopping.port) as wire, Wire(stopping.port) as silent:
        assert wire.send(request("GET", "/livez")).answer().status == 200
        assert stop(stopping.process) == 0
        assert wire.at_end()
        assert silent.at_end()
    assert "Traceback" not in stopping.log.read_text()


def test_what_comes_while_it_stops_is_answered_as_the_last(stopping: AgentProcess) -> None:
    """On connections in use, on one that has said nothing, in the middle of a request, and of one that is new."""
    data = predict([1.0, 2.0])
    with contextlib.ExitStack() as stack:
        used, silent, half = (stack.enter_context(Wire(stopping.port)) for _ in range(3))
        assert used.send(data).answer().json == {"predictions": [[1.0, 2.0]]}
        half.send(data[:20])
        assert used.send(data).answer().status == 200  # what came before is read by now
        stopping.process.terminate()
        eventually(lambda: "stopping: " in stopping.log.read_text())
        new = stack.enter_context(Wire(stopping.port))
        for wire, rest in ((used, data), (silent, data), (half, data[20:]), (new, data)):
            answer = wire.send(rest).answer()
            assert (answer.json, answer.headers["connection"]) == ({"predictions": [[1.0, 2.0]]}, "close")
            assert wire.at_end()


def test_the_owner_can_ask_how_it_is_while_no_connection_is_left(device: AgentProcess) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(MOST):
            wire = stack.enter_context(Wire(device.port))
            assert wire.send(request("GET", "/livez")).answer().status == 200
        with Wire(device.port) as one_more:
            assert f"more than {MOST} connections" in one_more.answer().error
        assert device.ask_status()["ready"]


def test_whoever_takes_the_place_of_one_that_left_is_let_in(device: AgentProcess) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(MOST - 1):
            wire = stack.enter_context(Wire(device.port))
            assert wire.send(request("GET", "/livez")).answer().status == 200
        for _ in range(10):
            leaving = Wire(device.port)
            with Wire(device.port) as one_more:
                leaving.__exit__()
                assert one_more.send(request("GET", "/livez")).answer().status == 200


def test_a_last_answer_that_is_read_late_is_not_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all sizes around what the system takes at once, of which the rest waits here."""
    monkeypatch.setattr(connection, "LINGER", 0.01)
    sizes = iter(range(40_000, 600_000, 40_000))

    async def status() -> dict[str, str]:
        return {"text": "x" * next(sizes)}

    async def late(path: Path) -> int:
        reader, writer = await asyncio.open_unix_connection(path, limit=1024)
        writer.write(request("GET", "/status", b"", "Connection: close"))
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        await asyncio.sleep(20 * connection.LINGER)
        missing = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0]) - len(await reader.read())
        writer.close()
        return missing

    async def test() -> None:
        dataplane = DataPlane(Recorder(()))
        endpoints = Endpoints(dataplane, lambda: None, status, cast(Any, None))
        door = Door(dataplane, AgentSettings(), endpoints, cast(Any, None))
        await door.start(bind_unix(tmp_path / "sock"))
        assert await asyncio.gather(*(late(tmp_path / "sock") for _ in range(14))) == [0] * 14
        await door.stop(5.0)

    asyncio.run(test())
