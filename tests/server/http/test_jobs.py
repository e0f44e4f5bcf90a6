"""Jobs that a running server takes: over HTTP from beginning to end, cancelled, and through restarts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.jobs.models import BAD, judging
from tests.server.process import Server, running

Json = dict[str, Any]
ROWS, PART = 1000, 50


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    judging(folder / "judge")
    judging(folder / "slow", delay=0.02)
    (folder / "linked").symlink_to(judging(tmp_path_factory.mktemp("elsewhere") / "other"))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("data")
    pq.write_table(pa.table({"id": range(ROWS), "x": [float(n % 50) for n in range(ROWS)]}), made / "in.parquet")
    return made


@pytest.fixture(scope="module")
def server(models: Path, folder: Path) -> Iterator[Server]:
    with running([models], "--jobs", str(folder)) as started:
        yield started


def ask(
    server: Server, method: str, path: str, body: object = None, kind: str = "application/json"
) -> tuple[int, Json]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{server.url}{path}", data, {"content-type": kind} if data else {}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def create(server: Server, **asked: Any) -> str:
    status, job = ask(server, "POST", "/v1/jobs", {"input": "in.parquet", "part_rows": PART, **asked})
    assert status == 201, job
    return str(job["id"])


def wait(server: Server, id: str, *states: str, timeout: float = 45) -> Json:
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        status, job = ask(server, "GET", f"/v1/jobs/{id}")
        assert status == 200
        if job["state"] in states:
            return job
        time.sleep(0.05)
    raise AssertionError(f"still {job}")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.parquet"))}


def test_a_job_from_beginning_to_end(server: Server, folder: Path) -> None:
    one = create(server, model="judge", output="scored", where="id < 500", keep="id", max_rejected="5%")
    job = wait(server, one, "done", "failed")
    assert job["state"] == "done", job
    manifest = job["manifest"]
    assert (manifest["rows_in"], manifest["rejected"], manifest["left_out"]) == (ROWS, 10, 500)
    assert sorted(manifest["model"]["files"]) == ["model.onnx", "model.yaml", "steps.py"]
    assert job["progress"]["rows_done"] == ROWS
    assert manifest["inputs"].keys() == {"in.parquet"}
    rows = pq.read_table(folder / "scored").to_pylist()
    assert rows == [{"id": n, "y": float(n % 50)} for n in range(500) if n % 50 != BAD]
    assert ask(server, "GET", "/v1/jobs")[1]["jobs"][0] == {**job, "manifest": None}
    status, said = ask(server, "POST", "/v1/jobs", {"model": "judge", "input": "in.parquet", "output": "scored"})
    assert (status, "is there already" in said["error"]) == (400, True)


def test_a_job_that_cannot_be_done_says_why(server: Server) -> None:
    one = create(server, model="judge", output="unmapped", map={"x": "amuont"})
    error = wait(server, one, "done", "failed")["error"]
    assert error == {"kind": "InvalidInput", "message": "--map: there is no column 'amuont'. Known: id, x."}
    one = create(server, model="linked", output="strict", max_rejected=1)
    assert "more than --max-rejected allows" in wait(server, one, "done", "failed")["error"]["message"]


def test_a_job_that_is_cancelled_ends_and_keeps_what_it_has(server: Server, folder: Path) -> None:
    one = create(server, model="slow", output="cancelled", batch_rows=10)
    behind = create(server, model="slow", output="never")
    assert wait(server, behind, "queued")["progress"] is None
    while not contents(folder / "cancelled"):
        time.sleep(0.02)
    assert ask(server, "DELETE", f"/v1/jobs/{behind}")[1]["state"] == "cancelled"
    assert ask(server, "DELETE", f"/v1/jobs/{one}")[1]["state"] == "cancelled"
    next_one = create(server, model="judge", output="next")
    assert wait(server, next_one, "done", "failed")["state"] == "done"
    assert wait(server, one, "cancelled")["finished"]
    assert not (folder / "cancelled.job" / "manifest.json").exists()
    assert not (folder / "never").exists()
    assert ask(server, "DELETE", f"/v1/jobs/{next_one}")[1]["state"] == "done"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "says"),
    [
        ("GET", "/v1/jobs/job-0", None, 404, "there is no job 'job-0'"),
        ("DELETE", "/v1/jobs/job-0", None, 404, "there is no job 'job-0'"),
        ("PUT", "/v1/jobs", {}, 405, "PUT is not allowed"),
        ("POST", "/v1/jobs", {"model": "jugde", "input": "in.parquet", "output": "o"}, 404, "Did you mean 'judge'"),
        (
            "POST",
            "/v1/jobs",
            {"model": "judge", "version": 3, "input": "in.parquet", "output": "o"},
            404,
            "version '3'",
        ),
        ("POST", "/v1/jobs", {"model": "judge", "input": "../in.parquet", "output": "o"}, 400, "outside the folder"),
        ("POST", "/v1/jobs", {"model": "judge", "input": "in.parquet", "output": "/tmp/o"}, 400, "outside the folder"),
        ("POST", "/v1/jobs", {"model": "judge"}, 400, "input"),
        ("POST", "/v1/jobs", [], 400, "expected a JSON object"),
    ],
)
def test_what_is_refused(server: Server, method: str, path: str, body: object, status: int, says: str) -> None:
    got, said = ask(server, method, path, body)
    assert (got, says in said["error"]) == (status, True), said


def test_a_form_of_a_web_page_is_no_job(server: Server) -> None:
    body = {"model": "judge", "input": "in.parquet", "output": "form"}
    status, said = ask(server, "POST", "/v1/jobs", body, kind="text/plain")
    assert (status, "content-type" in said["error"]) == (400, True)


def test_it_is_in_the_openapi_document(server: Server) -> None:
    paths = ask(server, "GET", "/openapi.json")[1]["paths"]
    assert set(paths["/v1/jobs"]) == {"get", "post"}
    assert set(paths["/v1/jobs/{id}"]) == {"get", "delete"}
    assert {"/v1/files", "/v1/files/{id}/content", "/v1/batches", "/v1/batches/{id}/cancel"} <= set(paths)


# Restarts


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("how", ["the whole group", "the server alone", "SIGTERM"])
def test_a_job_outlives_the_server(models: Path, tmp_path: Path, how: str) -> None:
    pq.write_table(pa.table({"id": range(ROWS), "x": [float(n % 50) for n in range(ROWS)]}), tmp_path / "in.parquet")
    with running([models], "--jobs", str(tmp_path)) as server:
        calm = create(server, model="slow", output="calm", batch_rows=10)
        stormy = create(server, model="slow", output="stormy", batch_rows=10)
        assert wait(server, calm, "done", "failed")["state"] == "done"
        while len(contents(tmp_path / "stormy")) < 5:
            time.sleep(0.02)
        end(server, how)
    before = contents(tmp_path / "stormy")
    assert 5 <= len(before) < ROWS // PART
    with running([models], "--jobs", str(tmp_path)) as server:
        job = wait(server, stormy, "done", "failed")
        assert job["state"] == "done", job
    after = contents(tmp_path / "stormy")
    assert after == contents(tmp_path / "calm")
    assert {name: after[name] for name in before} == before


def end(server: Server, how: str) -> None:
    if how == "the whole group":
        os.killpg(server.pid, signal.SIGKILL)
    elif how == "the server alone":
        os.kill(server.pid, signal.SIGKILL)
    else:
        server.process.terminate()
        started = time.monotonic()
        assert server.process.wait(20) == 0
        assert time.monotonic() - started < 10
    server.process.wait(20)


@pytest.mark.slow
def test_every_front_takes_jobs(models: Path, tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1.0] * 10}), tmp_path / "in.parquet")
    with running([models], "--jobs", str(tmp_path), "--fronts", "2") as server:
        ids = {create(server, model="judge", output=f"fronts-{n}") for n in range(3)}
        assert {wait(server, one, "done", "failed")["state"] for one in ids} == {"done"}
        listed = [{job["id"] for job in ask(server, "GET", "/v1/jobs")[1]["jobs"]} for _ in range(6)]
        assert listed == [ids] * 6


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_live_requests_go_first(models: Path, tmp_path: Path) -> None:
    """Live requests that take all of the model's time: the job stands until they end."""
    pq.write_table(pa.table({"x": [1.0] * 500}), tmp_path / "in.parquet")
    with running([models], "--jobs", str(tmp_path), "--replicas", "1") as server:
        busy = threading.Event()
        clients = [threading.Thread(target=live, args=(server, busy)) for _ in range(3)]
        for client in clients:
            client.start()
        one = create(server, model="slow", output="out", batch_rows=1)
        time.sleep(6)
        during = ask(server, "GET", f"/v1/jobs/{one}")[1]
        busy.set()
        for client in clients:
            client.join()
        assert during["state"] == "running"
        assert (during["progress"] or {"rows_done": 0})["rows_done"] < 50
        assert wait(server, one, "done", "failed")["state"] == "done"


def live(server: Server, stop: threading.Event) -> None:
    while not stop.is_set():
        status, answer = ask(server, "POST", "/v1/models/slow:predict", {"instances": [1.0]})
        assert (status, answer) == (200, {"predictions": [1.0]})


# Without


def test_a_server_without_a_folder_takes_no_jobs(served: Server) -> None:
    status, said = ask(served, "GET", "/v1/jobs")
    assert (status, "--jobs DIR" in said["error"]) == (404, True)
    assert "/v1/jobs" not in ask(served, "GET", "/openapi.json")[1]["paths"]


@pytest.mark.parametrize(
    ("places", "says"),
    [(["/nowhere"], "no such folder"), (["s3://bucket/x"], "exactly one folder"), ([".", "."], "one")],
)
def test_places_that_cannot_be(models: Path, places: list[str], says: str) -> None:
    flags = [flag for place in places for flag in ("--jobs", place)]
    command = ["forwardpass", "serve", str(models), "--port", "0", "--no-grpc", *flags]
    done = subprocess.run([Path(sys.executable).with_name(command[0]), *command[1:]], capture_output=True, text=True)
    assert (done.returncode, says in done.stderr) == (1, True), done.stderr
