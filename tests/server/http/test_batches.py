"""OpenAI's files and batches on a running server: handed in, run, fetched, cancelled, through a restart."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.jobs.models import BAD, judging
from tests.server.process import Server, running

from forwardpass.errors import InvalidInput
from forwardpass.jobs.service.request_batch import Asked, InvalidLine, check
from forwardpass.server.http.multipart import read_form

Json = dict[str, Any]
V1, V2 = "/v1/models/judge:predict", "/v2/models/judge/infer"
BOUNDARY = "----a-boundary"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    judging(folder / "judge")
    judging(folder / "slow", delay=0.02)
    return folder


@pytest.fixture(scope="module")
def server(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running([models], "--jobs", str(tmp_path_factory.mktemp("data"))) as started:
        yield started


def send(server: Server, method: str, path: str, data: bytes | None = None, kind: str = "") -> tuple[int, bytes]:
    headers = {"content-type": kind} if kind else {}
    request = urllib.request.Request(f"{server.url}{path}", data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def ask(server: Server, method: str, path: str, body: object = None) -> tuple[int, Json]:
    data = None if body is None else json.dumps(body).encode()
    status, answer = send(server, method, path, data, "application/json" if data else "")
    return status, json.loads(answer)


def form(content: bytes, purpose: str = "batch", filename: str = "requests.jsonl") -> bytes:
    fields = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n{purpose}\r\n'.encode(),
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{filename}"\r\n'.encode(),
        b"Content-Type: application/octet-stream\r\n\r\n" + content + f"\r\n--{BOUNDARY}--\r\n".encode(),
    ]
    return b"".join(fields)


def upload(server: Server, content: bytes) -> str:
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    status, answer = send(server, "POST", "/v1/files", form(content), kind)
    assert status == 200, answer
    return str(json.loads(answer)["id"])


def requests(bodies: list[Any], url: str = V1) -> bytes:
    lines = [{"custom_id": f"r{n}", "method": "POST", "url": url, "body": body} for n, body in enumerate(bodies)]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def v1(*values: float) -> Json:
    return {"instances": list(values)}


def create(server: Server, file: str, endpoint: str = V1, **more: Any) -> Json:
    body = {"input_file_id": file, "endpoint": endpoint, "completion_window": "24h", **more}
    status, batch = ask(server, "POST", "/v1/batches", body)
    assert status == 200, batch
    return batch


def wait(server: Server, one: str, *statuses: str, timeout: float = 45) -> Json:
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        status, batch = ask(server, "GET", f"/v1/batches/{one}")
        assert status == 200
        if batch["status"] in statuses:
            return batch
        time.sleep(0.05)
    raise AssertionError(f"still {batch}")


def answers(server: Server, file: str) -> dict[str, Json]:
    status, content = send(server, "GET", f"/v1/files/{file}/content")
    assert status == 200
    lines = [json.loads(line) for line in content.splitlines()]
    assert len({line["custom_id"] for line in lines}) == len(lines)
    return {line["custom_id"]: line for line in lines}


def test_a_batch_from_beginning_to_end(server: Server) -> None:
    file = upload(server, requests([*(v1(float(n)) for n in range(20)), {"instances": "none"}]) + b"\n")
    batch = create(server, file, metadata={"for": "tests"})
    assert (batch["object"], batch["status"], batch["input_file_id"]) == ("batch", "validating", file)
    assert batch["expires_at"] - batch["created_at"] == 24 * 3600
    done = wait(server, batch["id"], "completed", "failed", "expired")
    assert done["status"] == "completed", done
    assert done["request_counts"] == {"total": 21, "completed": 19, "failed": 2}
    assert (done["metadata"], done["errors"]) == ({"for": "tests"}, None)
    assert done["completed_at"] >= done["in_progress_at"] >= done["created_at"]
    good = answers(server, done["output_file_id"])
    assert {name: line["response"]["body"] for name, line in good.items()} == {
        f"r{n}": {"predictions": [float(n)]} for n in range(20) if n != BAD
    }
    assert all(line["error"] is None and line["response"]["status_code"] == 200 for line in good.values())
    bad = answers(server, done["error_file_id"])
    assert bad["r13"]["response"]["body"] == {"error": "thirteen"}
    assert bad["r20"]["response"]["status_code"] == 400
    assert ask(server, "GET", f"/v1/files/{done['output_file_id']}")[1]["purpose"] == "batch_output"
    assert ask(server, "GET", "/v1/batches")[1]["data"][0] == done
    assert batch["id"] not in str(ask(server, "GET", "/v1/jobs")[1])


def test_v2_requests_too_and_a_file_without_failures_has_no_errors(server: Server) -> None:
    tensor = {"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 2]}
    batch = create(server, upload(server, requests([{"inputs": [tensor]}], V2)), V2)
    done = wait(server, batch["id"], "completed", "failed")
    assert (done["status"], done["error_file_id"]) == ("completed", None)
    assert answers(server, done["output_file_id"])["r0"]["response"]["body"]["outputs"][0]["data"] == [1.0, 2.0]


def test_a_file_with_a_wrong_line_fails_by_its_number(server: Server) -> None:
    batch = create(server, upload(server, requests([v1(1)]) + b'{"custom_id": "x"}\n'))
    failed = wait(server, batch["id"], "completed", "failed")
    assert failed["status"] == "failed"
    assert (failed["errors"]["data"][0]["line"], failed["output_file_id"]) == (2, None)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"", "holds no request"),
        (b"not json\n", "no request of a batch"),
        (requests([v1(1)], V2), "the batch's endpoint is"),
        (requests([v1(1)]).replace(b"POST", b"GET"), "only POST is offered"),
        (requests([v1(1)]) * 2, "is there twice"),
    ],
)
def test_lines_that_are_refused(tmp_path: Path, line: bytes, says: str) -> None:
    (tmp_path / "in").write_bytes(line)
    with pytest.raises(InvalidLine, match=says):
        check(Asked("batch_1", "", tmp_path / "in", V1, 0.0))


def test_a_batch_that_is_cancelled_keeps_its_answers(server: Server) -> None:
    slow = "/v1/models/slow:predict"
    batch = create(server, upload(server, requests([v1(1)] * 3000, slow)), slow)
    while ask(server, "GET", f"/v1/batches/{batch['id']}")[1]["request_counts"]["completed"] == 0:
        time.sleep(0.05)
    status, cancelled = ask(server, "POST", f"/v1/batches/{batch['id']}/cancel")
    assert (status, cancelled["status"] in ("cancelling", "cancelled")) == (200, True)
    ended = wait(server, batch["id"], "cancelled")
    while ended["output_file_id"] is None:
        ended = wait(server, batch["id"], "cancelled")
    assert 0 < len(answers(server, ended["output_file_id"])) < 3000
    status, said = ask(server, "POST", f"/v1/batches/{batch['id']}/cancel")
    assert (status, said["error"]["type"]) == (400, "invalid_request_error")


def test_files(server: Server) -> None:
    content = bytes(range(256)) * 10 + b"\r\n--no-boundary\r\n"
    file = upload(server, content)
    facts = ask(server, "GET", f"/v1/files/{file}")[1]
    assert (facts["bytes"], facts["filename"], facts["object"]) == (len(content), "requests.jsonl", "file")
    assert send(server, "GET", f"/v1/files/{file}/content") == (200, content)
    second = upload(server, b"x")
    first_page = ask(server, "GET", "/v1/files?limit=1")[1]
    assert (len(first_page["data"]), first_page["has_more"]) == (1, True)
    rest = ask(server, "GET", f"/v1/files?after={first_page['last_id']}")[1]
    assert {file, second} <= {item["id"] for item in [*first_page["data"], *rest["data"]]}
    assert ask(server, "DELETE", f"/v1/files/{file}") == (200, {"id": file, "object": "file", "deleted": True})
    for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
        assert ask(server, method, f"/v1/files/{file}{path}")[0] == 404


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "says"),
    [
        ("GET", "/v1/files/file-..%2F..%2Fetc", None, 404, "there is no"),
        ("GET", "/v1/files/.jobs.sqlite/content", None, 404, "there is no file"),
        ("GET", "/v1/batches/batch_0", None, 404, "there is no"),
        ("GET", "/v1/files?limit=0", None, 400, "limit '0'"),
        ("GET", "/v1/batches?after=batch_0", None, 404, "there is no 'batch_0'"),
        ("POST", "/v1/files", {}, 400, "multipart/form-data"),
        ("POST", "/v1/batches", {"input_file_id": "file-0"}, 400, "completion_window"),
        ("POST", "/v1/batches", {"completion_window": "24h", "endpoint": "/livez"}, 400, "endpoint '/livez'"),
        ("POST", "/v1/batches", {"completion_window": "1h", "endpoint": V1}, 400, "use 24h"),
        (
            "POST",
            "/v1/batches",
            {"completion_window": "24h", "endpoint": V1, "input_file_id": "file-0"},
            404,
            "no file",
        ),
        ("POST", "/v1/batches", {"model": "x"}, 400, "unknown key 'model'"),
    ],
)
def test_what_is_refused(server: Server, method: str, path: str, body: object, status: int, says: str) -> None:
    got, said = ask(server, method, path, body)
    message = said["error"]["message"] if isinstance(said["error"], dict) else said["error"]
    assert (got, says in message) == (status, True), said


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_batch_outlives_the_server(models: Path, tmp_path: Path) -> None:
    slow = "/v1/models/slow:predict"
    with running([models], "--jobs", str(tmp_path)) as server:
        batch = create(server, upload(server, requests([v1(float(n % 10)) for n in range(400)], slow)), slow)
        while ask(server, "GET", f"/v1/batches/{batch['id']}")[1]["request_counts"]["completed"] == 0:
            time.sleep(0.02)
        os.killpg(server.pid, signal.SIGKILL)
        server.process.wait(20)
    (part,) = (tmp_path / ".files").glob("*-output.part")
    assert 0 < len(part.read_bytes().splitlines()) < 400
    part.write_bytes(part.read_bytes()[:-5])  # as if it had been killed while it wrote
    with running([models], "--jobs", str(tmp_path)) as server:
        done = wait(server, batch["id"], "completed", "failed", timeout=60)
        assert done["request_counts"] == {"total": 400, "completed": 400, "failed": 0}
        assert {
            name: line["response"]["body"]["predictions"]
            for name, line in answers(server, done["output_file_id"]).items()
        } == {f"r{n}": [float(n % 10)] for n in range(400)}


# Forms


def test_a_form_is_cut_at_its_boundary_alone() -> None:
    content = b"a\r\n--bother\r\n\r\n--b\n"
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x.jsonl"\r\n\r\n'
    fields = read_form("multipart/form-data; boundary=b", head + content.replace(b"--b", b"--c") + b"\r\n--b--\r\n")
    assert (fields["file"].content, fields["file"].filename) == (content.replace(b"--b", b"--c"), "x.jsonl")


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/plain", b"--b--"),
        ("multipart/form-data", b"--b--"),
        ("multipart/form-data; boundary=b", b""),
        ("multipart/form-data; boundary=b", b"--b\r\n\r\nx"),
        ("multipart/form-data; boundary=b", b'--b\r\nContent-Disposition: form-data; name="f"\r\n--b--'),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--"),
    ],
)
def test_what_is_no_form(kind: str, body: bytes) -> None:
    with pytest.raises(InvalidInput):
        read_form(kind, body)
