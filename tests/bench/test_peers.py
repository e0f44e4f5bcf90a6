"""Peers are asked in their own words, measured where they answer right, and leave nothing behind."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bench.answers import WrongAnswer
from bench.bench import Bench, Cores, Plan
from bench.load import Load, LoadFailed
from bench.peers import answer, bodies, environments, leftovers, mlserver_folder, open_loop, table, visit
from bench.peers.__main__ import _some
from bench.peers.peers import BOUNDARY, OURS, PEERS, RUNTIME, Ask, Peer
from bench.peers.place import Place
from bench.peers.visit import VISITS, Visit, Visitor, measures, name
from bench.processes import StartFailed
from bench.table import MARKER
from bench.table import write as write_bench

ROW = [0.5, -1.25, 3.0]
STUB = """\
import http.server, subprocess, sys
class Stub(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = {body!r}
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_POST = do_GET
    def log_message(self, *_): pass
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
http.server.ThreadingHTTPServer.request_queue_size = 128
http.server.ThreadingHTTPServer(("127.0.0.1", {port}), Stub).serve_forever()
"""


def stub(body: bytes) -> Peer:
    """A peer that answers everything with ``body``, and starts a process in a session of its own."""

    def command(place: Place) -> list[str]:
        return [sys.executable, "-c", STUB.format(body=body, port=place.port)]

    return Peer("Stub", (), command, "/", {"tiny": Ask("/", "application/json", "plain.json")})


@pytest.fixture
def visitor(tmp_path: Path) -> Visitor:
    (tmp_path / "requests").mkdir()
    (tmp_path / "requests" / "plain.json").write_text(json.dumps({"instances": [ROW]}))
    (tmp_path / "expected.json").write_text(json.dumps({"tiny": [1.0, 2.0]}))
    cores = Cores.choose()
    bench = Bench(tmp_path, Plan(rounds=1, warm=1, fast=1, slow=1), cores)
    return Visitor(bench, tmp_path / "peers", frozenset({"start", "tiny", "memory"}))


def marked() -> list[int]:
    return [pid for pid in leftovers._processes() if leftovers._marked(pid, b"PEER_KIND=tiny") and pid != os.getpid()]


def wait_until_none_is_left() -> None:
    until = time.monotonic() + 10
    while left := marked():  # a killed process takes a moment to go
        assert time.monotonic() < until, left
        time.sleep(0.01)


def test_a_peer_is_measured_and_nothing_of_it_is_left(visitor: Visitor) -> None:
    peer = stub(json.dumps({"predictions": [[1.0, 2.0]]}).encode())
    visitor.visit(peer, VISITS[0])
    assert visitor.failures == {}
    (closed,) = visitor.loads["Stub, tiny JSON"]
    assert 0 < closed.p50 <= closed.p99
    assert closed.server_cpu > 0
    (seconds,), (megabytes,) = visitor.numbers[name(peer, "start")], visitor.numbers[name(peer, "memory")]
    assert 0.02 < seconds < 30
    assert 5 < megabytes < 200
    wait_until_none_is_left()


def test_the_open_loop_sends_at_the_rate_that_was_asked(visitor: Visitor) -> None:
    with visitor._started(stub(b'{"predictions": [[1.0, 2.0]]}'), VISITS[0]) as server:
        request = visitor.request(Ask("/", "application/json", "plain.json"))
        command = open_loop.command(server.port, request, rate=100, seconds=1)
        found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert found["ok"] == found["sent"] == pytest.approx(100, rel=0.3)
    assert found["bad"] == 0
    assert 0 < found["p50"] <= found["p99"]


def test_an_open_loop_needs_a_rate(visitor: Visitor) -> None:
    visitor.wanted = frozenset({"open"})
    peer = stub(b'{"predictions": [[1.0, 2.0]]}')
    visitor.visit(peer, VISITS[0])
    assert visitor.failures == {name(peer, "open"): ["its rate at 64 connections was not measured"]}


def test_a_wrong_answer_is_never_timed(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visit, "FIRST_ANSWER", 0)
    peer = stub(b'{"predictions": [[1.0, 5.0]]}')
    visitor.visit(peer, VISITS[0])
    assert not visitor.loads
    assert not visitor.numbers
    assert "differs from ONNX Runtime" in visitor.failures[name(peer, "tiny")][0]
    wait_until_none_is_left()


def test_a_peer_that_does_not_start_is_given_up_after_two_tries(visitor: Visitor) -> None:
    peer = dataclasses.replace(stub(b""), command=lambda _: [sys.executable, "-c", "raise SystemExit('no licence')"])
    for _ in range(3):
        visitor.visit(peer, VISITS[0])
    (_, last) = visitor.failures[name(peer, "start")]
    assert "no licence" in last


def test_what_left_its_session_is_found_by_its_mark() -> None:
    environ = {**os.environ, leftovers.MARK: "of-this-test"}
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], env=environ)
    assert leftovers.end("of-another-test") == []
    until = time.monotonic() + 10
    while leftovers.end("of-this-test") != [process.pid]:  # until it has begun to run
        assert time.monotonic() < until
        time.sleep(0.01)
    assert process.wait(10) == -9


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_every_peer_takes_every_measure_once(peer: Peer) -> None:
    taken = [measure for planned in VISITS for measure in measures(planned, peer)]
    assert len(taken) == len(set(taken))
    assert {"start", "single", "tiny", "open", "memory", "text", "text-open", "image"} <= set(taken)
    assert ("binary" in taken) == ("binary" in peer.asks) == ("binary" not in peer.missing)
    assert ("unbatched" in taken) == peer.waits
    assert all("==" in package for package in peer.packages)


def test_batching_is_off_only_where_a_lone_request_would_wait() -> None:
    off = Visit("tiny", ("unbatched",), batching=False)
    assert [peer.name for peer in PEERS if measures(off, peer)] == ["Mosec", "MLServer", "BentoML"]


def test_bodies_carry_what_the_benchmark_asks(tmp_path: Path) -> None:
    (tmp_path / "plain.json").write_text(json.dumps({"instances": [ROW]}))
    (tmp_path / "text_00.json").write_text(json.dumps({"inputs": [{"data": ["a sentence"]}]}))
    (tmp_path / "image.jpg").write_bytes(b"\xff\xd8 picture")
    bodies.write(tmp_path)
    tensor = struct.pack("<3f", *ROW)
    assert (tmp_path / "tiny.f32").read_bytes() == tensor
    assert (tmp_path / "tiny.msgpack").read_bytes() == b"\x81\xa1x\xc5\x00\x0c" + tensor
    assert json.loads((tmp_path / "instances_00.json").read_text()) == {"instances": ["a sentence"]}
    form = (tmp_path / "image.multipart").read_bytes()
    assert form.startswith(f"--{BOUNDARY}\r\n".encode())
    assert b"\r\n\r\n\xff\xd8 picture\r\n--" in form
    (tensor_in,) = json.loads((tmp_path / "image_base64.json").read_text())["inputs"]
    assert base64.b64decode(tensor_in["data"][0]) == b"\xff\xd8 picture"


@pytest.mark.parametrize(
    "body",
    [b'{"predictions": [[1.0, 2.0]]}', b"[[1.0, 2.0]]", struct.pack("<2f", 1, 2), b"\x81\xa1y\xc4\x08\0\0\x80?\0\0\0@"],
    ids=["predictions", "bare", "floats", "msgpack"],
)
def test_answers_of_every_peer_are_read(body: bytes) -> None:
    assert answer.values(body, None, 2) == [1.0, 2.0]


def test_an_answer_that_is_too_short_is_refused() -> None:
    with pytest.raises(WrongAnswer, match="neither JSON nor 2 floats"):
        answer.values(b"\xff\xff", None, 2)


FOUND = {"sent": 10, "ok": 10, "bad": 0, "seconds": 2.0, "p50": 0.1, "p99": 0.2, "punctual": True, "planned": 5}


def test_open_loop_is_a_load() -> None:
    assert open_loop.read_result({**FOUND, "first_error": ""}) == Load(10, 2.0, 0.1, 0.2, client_cpu=0.0)


@pytest.mark.parametrize(("change", "why"), [({"bad": 1}, "1 of 10"), ({"punctual": False}, "could not keep 5")])
def test_open_loop_that_failed_does_not_count(change: dict[str, object], why: str) -> None:
    with pytest.raises(LoadFailed, match=why):
        open_loop.read_result({**FOUND, "first_error": "", **change})


def test_an_installation_that_fails_says_why() -> None:
    pip = "import sys; print('WARNING: old', file=sys.stderr); sys.exit('ERROR: No matching distribution')"
    with pytest.raises(StartFailed, match="cannot be installed: ERROR: No matching distribution"):
        environments._run(sys.executable, "-c", pip)


def test_an_environment_is_built_once(tmp_path: Path) -> None:
    peer = dataclasses.replace(stub(b""), packages=("one==1",))
    (tmp_path / "stub").mkdir()
    (tmp_path / "stub" / "built").write_text("\n".join(("one==1", *RUNTIME)))
    assert environments.programs(tmp_path, peer) == tmp_path / "stub" / "bin"
    assert environments.programs(tmp_path, OURS) == Path(sys.executable).parent


def test_mlserver_batches_only_where_asked(tmp_path: Path) -> None:
    for rows in (1, 8):
        scratch = tmp_path / str(rows)
        scratch.mkdir()
        folder = mlserver_folder.write(Place(Path(), 8000, scratch, "tiny", rows))
        assert json.loads((folder / "settings.json").read_text())["host"] == "127.0.0.1"
        assert json.loads((folder / "model-settings.json").read_text()).get("max_batch_size") == (None, 8)[rows == 8]


def measured(visitor: Visitor, peer: Peer, rate: float, p50: float) -> None:
    load = Load(int(rate), 1.0, p50, 2 * p50, client_cpu=0.0)
    for measure in ("tiny", "single", "unbatched"):
        visitor.loads[name(peer, measure)] = [load]
    visitor.numbers[name(peer, "memory")] = [rate]


def test_targets_are_held_against_the_best_peer(visitor: Visitor) -> None:
    for peer, rate, p50 in zip(PEERS[:3], (300, 100, 200), (3e-3, 4e-3, 2e-3), strict=True):
        measured(visitor, peer, rate, p50)
    rows = {row.measure: row for row in table.targets(visitor, PEERS[:3])}
    throughput, latency = rows["tiny JSON, requests per second"], rows["tiny, 1 connection, p50"]
    assert throughput.value is not None
    assert (throughput.value.median, throughput.verdict, throughput.note) == (1.5, "**missed**", "best: LitServe")
    assert latency.value is not None
    assert latency.value.median == pytest.approx(1.5)
    assert rows["memory, tiny, after load"].note == "best: Mosec"
    assert rows["image, requests per second"].verdict == "**not measured**"


def test_the_section_says_what_is_missing(visitor: Visitor) -> None:
    measured(visitor, OURS, 300, 1e-3)
    visitor.failures[name(PEERS[1], "tiny")] = ["cannot be installed: no wheel"]
    text = table.render({"Python": "3.11"}, visitor, PEERS, ["3 rounds"])
    assert "| Mosec | failed |" in text
    assert "- Mosec, tiny JSON failed in 1 round(s): cannot be installed: no wheel" in text
    assert "| BentoML |  | not offered |" in text
    assert "bentoml==1.4.39" in text


def test_both_sections_keep_each_other(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    page.write_text(f"# Words\n\n{MARKER}\n\nold results\n")
    table.write(page, "## Peers\n\nfirst\n")
    write_bench(page, "new results\n")
    table.write(page, "## Peers\n\nsecond\n")
    text = page.read_text()
    assert text.startswith("# Words\n")
    assert text.endswith(f"{MARKER}\n\nnew results\n")
    assert "second" in text
    assert "first" not in text
    assert text.count(table.BEGIN) == text.count(table.END) == 1


def test_names_are_chosen_in_any_case() -> None:
    assert _some(["Mosec", "Ray Serve"])("ray serve,mosec") == ["Mosec", "Ray Serve"]
    with pytest.raises(Exception, match="known: Mosec"):
        _some(["Mosec"])("nobody")
