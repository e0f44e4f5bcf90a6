"""Jobs whose rows a running server predicts: the answers of a local engine, and servers that come and go."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.jobs.conftest import S3
from tests.jobs.models import BAD, DEADLY, POISON, judging
from tests.server.process import Server, free_port, running
from tests.server.repository import tiny_models

from forwardpass.engine.engine import load
from forwardpass.errors import ForwardpassError, InvalidInput, InvalidModel, NotFound, NotReady
from forwardpass.jobs import remote
from forwardpass.jobs.engine import LocalEngine, open_engine
from forwardpass.jobs.job import Job
from forwardpass.jobs.manifest import Manifest
from forwardpass.jobs.remote import Client, Patience, RemoteEngine, find_remote
from forwardpass.jobs.run import Options, Run
from forwardpass.jobs.storage import create_storage
from forwardpass.types import Columns, DType, InputType

EXAMPLES = Path(__file__).parents[2] / "examples" / "models"
SHOWN = ["breast-cancer", "digits", "fraud", "task-priority"]
DELAY = 0.02  # seconds of each batch of the model that is slow


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_models(tmp_path_factory.mktemp("models"))
    judging(folder / "judge")
    slow = judging(folder / "slow", delay=DELAY)
    (slow / "model.yaml").write_text("limits: {max_batch_size: 4}\npreprocess: [{step: judge}]\n")
    return folder


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    with running([models, *(EXAMPLES / name for name in SHOWN)]) as started:
        yield started


def run(model: object, source: Path, output: Path, *, resume: bool = False, **asked: Any) -> Manifest:
    job = Job(str(model), (str(source),), str(output), **asked)
    return Run(job, Options(1, resume), lambda snapshot: None).run()


def rejected(output: Path) -> list[dict[str, Any]]:
    files = sorted((output.parent / f"{output.name}.job" / "rejected").glob("*.jsonl"))
    return [msgspec.json.decode(line) for file in files for line in file.read_bytes().splitlines()]


# The same answers


@pytest.mark.parametrize("name", SHOWN)
def test_a_server_says_what_its_engine_takes_and_gives(server: Server, name: str) -> None:
    with closing(open_engine(find_remote(server.url, name, "")[2], 1)) as engine:
        assert engine.signature == load(EXAMPLES / name).signature


def values(shape: tuple[int, ...], dtype: DType) -> Any:
    numbers = np.arange(np.prod(shape)).reshape(shape)
    return numbers.astype(str).astype(object) if dtype is DType.BYTES else numbers.astype(dtype.numpy)


@pytest.mark.parametrize("name", ["two-inputs", "bytes", "brain", "half", "bool", "unbatched", "versions"])
def test_batches_of_every_type_come_back_as_from_a_local_engine(server: Server, models: Path, name: str) -> None:
    here = LocalEngine(load(models / name))
    there = RemoteEngine(find_remote(server.url, name, "")[2])
    assert there.signature == here.signature
    rows = 5 if here.signature.batched else 1
    columns = {
        spec.name: values(tuple(axis or rows for axis in spec.tensor.shape), spec.tensor.dtype)
        for spec in here.signature.inputs
    }
    expected, _, _ = here.run(columns, rows)
    outputs, failures, seconds = there.run(columns, rows)
    there.close()
    assert not failures
    assert seconds > 0
    for output in here.signature.outputs:
        if output.dtype is DType.BYTES:
            assert [text.decode() for text in outputs[output.name].ravel()] == expected[output.name].ravel().tolist()
        else:
            np.testing.assert_array_equal(outputs[output.name], expected[output.name])


def test_a_job_gives_what_a_local_engine_gives(server: Server, tmp_path: Path) -> None:
    sentences = [f"{word} the server {'again ' * n}today" for n in range(40) for word in ("mend", "paint", "")]
    source = tmp_path / "in.parquet"
    pq.write_table(pa.table({"id": range(120), "text": [text or None for text in sentences]}), source)
    here = run(EXAMPLES / "task-priority", source, tmp_path / "here")
    there = run(EXAMPLES / "task-priority", source, tmp_path / "there", url=server.url)
    assert there.model == here.model
    assert (there.rows_out, there.rejected) == (here.rows_out, here.rejected)
    assert there.compute_seconds > 0
    same(pq.read_table(tmp_path / "there"), pq.read_table(tmp_path / "here"))


def same(one: pa.Table, other: pa.Table) -> None:
    assert one.schema == other.schema
    for name in one.schema.names:
        if pa.types.is_floating(one.schema.field(name).type):
            np.testing.assert_allclose(one[name].to_numpy(), other[name].to_numpy(), atol=1e-5)
        else:
            assert one[name].to_pylist() == other[name].to_pylist(), name


def test_bad_rows_alone_are_rejected_with_what_the_server_says(server: Server, tmp_path: Path) -> None:
    numbers: list[float | None] = [float(n) for n in range(1000)]
    numbers[7] = numbers[700] = None
    numbers[int(DEADLY)] = 0.0
    source = tmp_path / "in.parquet"
    pq.write_table(pa.table({"id": range(1000), "x": numbers}), source)
    manifest = run("judge", source, tmp_path / "out", url=server.url)
    assert (manifest.rows_out, manifest.rejected) == (996, 4)
    assert (manifest.model.name, manifest.model.version, manifest.model.files) == ("judge", "1", {})
    assert [(line["row"], line["step"], line["reason"]) for line in rejected(tmp_path / "out")] == [
        (7, "inputs", "input 'x': is missing (null or empty); send a value of FP32"),
        (int(BAD), "server", "thirteen"),
        (int(POISON), "server", "step 'judge' failed: RuntimeError: poisoned"),
        (700, "inputs", "input 'x': is missing (null or empty); send a value of FP32"),
    ]
    local = run(EXAMPLES.parent / "models" / "fraud", fraud(tmp_path), tmp_path / "here")
    there = run("fraud/1", fraud(tmp_path), tmp_path / "there", url=server.url)
    assert local.rejected == there.rejected == 2
    assert [line["row"] for line in rejected(tmp_path / "there")] == [
        line["row"] for line in rejected(tmp_path / "here")
    ]


def fraud(tmp_path: Path) -> Path:
    """The example's sample many times, with an amount below its range, and a channel that there is not."""
    sample = json.loads((EXAMPLES / "fraud" / "sample.json").read_text())["instances"][0]
    rows = [dict(sample) for _ in range(20)]
    rows[3]["amount"] = -1
    rows[8]["channel"] = "pigeon"
    path = tmp_path / "fraud.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_seconds_of_all_batches_that_the_server_made_count(server: Server) -> None:
    with closing(RemoteEngine(find_remote(server.url, "slow", "")[2])) as engine:
        outputs, _, seconds = engine.run({"x": np.arange(20, dtype=np.float32)}, 20)
    assert outputs["y"].tolist()[:13] == list(range(13))
    assert seconds >= 5 * DELAY  # batches of four


# Which model


def test_a_model_that_the_server_does_not_have_is_named(server: Server, tmp_path: Path) -> None:
    source = tmp_path / "in.parquet"
    pq.write_table(pa.table({"x": [1.0]}), source)
    with pytest.raises(NotFound, match=r"has no model 'fruad'\. Did you mean 'fraud'"):
        run("fruad", source, tmp_path / "out", url=server.url)
    with pytest.raises(NotFound, match="model 'versions' has no version '3'"):
        run("versions/3", source, tmp_path / "out", url=server.url)
    with pytest.raises(InvalidModel, match="model 'broken' version 1 is not ready"):
        run("broken", source, tmp_path / "out", url=server.url)
    with pytest.raises(NotReady, match="cannot reach"):
        run("fraud", source, tmp_path / "out", url=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(InvalidInput, match=r"--url: .* give one like https://"):
        run("fraud", source, tmp_path / "out", url="127.0.0.1:8000")
    assert find_remote(server.url, "versions", "")[1] == "2"
    assert find_remote(server.url, "versions", "1")[1] == "1"


def test_what_a_lost_attempt_left_on_an_object_store_is_done_again(server: Server, tmp_path: Path, s3: S3) -> None:
    """Its answers need not be the same to the last bit."""
    source = tmp_path / "in.parquet"
    pq.write_table(pa.table({"x": [1.0, 2.0]}), source)
    job = Job("judge", (str(source),), f"{s3.url}/out", url=server.url)
    first = Run(job, Options(1, ledger=tmp_path / "first"), lambda snapshot: None).run()
    storage = create_storage(s3.url)
    for name in ("out.job/manifest.json", "out/part-00000.parquet"):
        storage.delete(f"{s3.url}/{name}")
    storage.create(f"{s3.url}/out/part-00000.parquet", b"nearly the same")
    again = Run(job, Options(1, True, ledger=tmp_path / "second"), lambda snapshot: None).run()
    assert again.parts == first.parts


def test_going_on_with_another_version_is_refused(server: Server, tmp_path: Path) -> None:
    source = tmp_path / "in.parquet"
    pq.write_table(pa.table({"x": [[1, 2]]}), source)
    run("versions/1", source, tmp_path / "out", url=server.url)
    (tmp_path / "out.job" / "manifest.json").unlink()
    with pytest.raises(InvalidInput, match="the model's name or version has changed"):
        run("versions/2", source, tmp_path / "out", url=server.url, resume=True)


# Servers that come and go

Told = tuple[int, dict[str, str], bytes]
CLOSED: Told = (0, {}, b"")


def ok(x: Any) -> Told:
    raw = x.tobytes()
    output = {"name": "y", "datatype": "FP32", "shape": [len(x)], "parameters": {"binary_data_size": len(raw)}}
    header = json.dumps({"outputs": [output]}).encode()
    timing = "queue;dur=9, preprocess;dur=1, forward;dur=2, postprocess;dur=3"
    return 200, {"inference-header-content-length": str(len(header)), "server-timing": timing}, header + raw


def said(status: int, **headers: str) -> Told:
    return status, {name.replace("_", "-"): value for name, value in headers.items()}, b'{"error": "because"}'


@contextmanager
def peer(answer: Callable[[Any], Told]) -> Iterator[RemoteEngine]:
    """An engine on a server that has one model of one number and answers as told."""
    tensor = {"name": "x", "datatype": "FP32", "shape": [-1], "type": InputType.TENSOR, "description": ""}
    rest: dict[str, Any] = {"required": True, "minimum": None, "maximum": None, "allow_nan": True, "categories": []}
    one = {**tensor, **rest, "max_length": None, "max_pixels": None}
    outputs = [{"name": "y", "datatype": "FP32", "shape": [-1]}]
    model = {"name": "m", "version": "1", "state": "READY", "batched": True, "inputs": [one], "outputs": outputs}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.tell(200, {}, json.dumps({"models": [model]}).encode())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            assert self.headers["x-priority"] == "background"
            self.tell(*answer(np.frombuffer(body[int(self.headers["inference-header-content-length"]) :], np.float32)))

        def tell(self, status: int, headers: dict[str, str], body: bytes) -> None:
            if not status:
                self.close_connection = True
                return
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None: ...

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True).start()
    try:
        with closing(RemoteEngine(find_remote(f"http://127.0.0.1:{listening.server_port}", "m", "")[2])) as engine:
            yield engine
    finally:
        listening.shutdown()
        listening.server_close()


def in_turn(first: list[Told]) -> Callable[[Any], Told]:
    return lambda x: first.pop(0) if first else ok(x)


def numbers(rows: int) -> Columns:
    return {"x": np.arange(rows, dtype=np.float32)}


def test_a_server_that_is_busy_or_away_is_asked_again() -> None:
    with peer(in_turn([CLOSED, said(503), said(429), CLOSED, said(502)])) as engine:
        outputs, failures, seconds = engine.run(numbers(3), 3)
    assert outputs["y"].tolist() == [0, 1, 2]
    assert (failures, seconds) == ({}, 0.006)


def test_it_waits_as_long_as_it_is_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(remote, "Patience", lambda: Patience(sleep=slept.append))
    with peer(in_turn([said(503, retry_after="7"), said(503)])) as engine:
        engine.run(numbers(1), 1)
    assert slept == [7.0, 0.1]


def wait_for_ever(patience: Patience) -> None:
    while True:
        patience.wait("http://there", "refused")


def test_nothing_waits_for_ever() -> None:
    now = [0.0]
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    patience = Patience(lambda: now[0], sleep)
    with pytest.raises(NotReady, match=r"http://there gave no answer for 300 s \(refused\)"):
        wait_for_ever(patience)
    assert slept[:5] == [0.0, 0.1, 0.2, 0.4, 0.8]
    assert max(slept) == 5.0
    assert 300 <= now[0] < 306


@pytest.mark.parametrize("status", [413, 504])
def test_what_is_too_much_at_once_is_sent_in_pieces(status: int) -> None:
    sizes: list[int] = []

    def at_most_40(x: Any) -> Told:
        sizes.append(len(x))
        return ok(x) if len(x) <= 40 else said(status)

    with peer(at_most_40) as engine:
        outputs, failures, _ = engine.run(numbers(600), 600)
        assert outputs["y"].tolist() == list(range(600))
        assert not failures
        assert sizes[:5] == [512, 256, 128, 64, 32]
        assert max(sizes[5:]) == (32 if status == 413 else 42)  # what was too late once may be in time again


def test_one_bad_row_fails_alone() -> None:
    def but_77(x: Any) -> Told:
        return said(400) if 77 in x else ok(x)

    with peer(but_77) as engine:
        outputs, failures, _ = engine.run(numbers(100), 100)
    assert outputs["y"].tolist() == [n for n in range(100) if n != 77]
    assert {row: (error.message, error.step) for row, error in failures.items()} == {77: ("because", "server")}


def test_an_answer_of_another_version_is_refused() -> None:
    status, headers, body = ok(np.ones(2, np.float32))
    other = body.replace(b'{"outputs"', b'{"model_version": "2", "outputs"')
    headers["inference-header-content-length"] = str(
        int(headers["inference-header-content-length"]) + len(other) - len(body)
    )
    with peer(lambda x: (status, headers, other)) as engine, pytest.raises(NotReady, match="version 2 answered"):
        engine.run(numbers(2), 2)


@pytest.mark.parametrize("told", [said(404), (200, {}, b"{}"), ok(np.ones(1, np.float32))])
def test_what_is_no_answer_to_any_row_fails_the_part(told: Told) -> None:
    with peer(lambda x: told) as engine, pytest.raises(ForwardpassError):
        engine.run(numbers(2), 2)


def test_a_page_of_something_else_is_no_server() -> None:
    listening = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True).start()
    try:
        with pytest.raises(NotReady, match="not as a Forwardpass server does"):
            find_remote(f"http://127.0.0.1:{listening.server_port}", "m", "")
    finally:
        listening.shutdown()
        listening.server_close()


def test_an_address_may_have_a_path() -> None:
    assert Client("http://here:80/below/").url == "http://here:80/below"
