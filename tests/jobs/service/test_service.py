"""What a server's jobs may be and touch, and how they are kept. The jobs themselves run in tests/server/http."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.jobs.conftest import S3

from forwardpass.errors import ForwardpassError, InvalidInput, InvalidSettings, NotFound
from forwardpass.jobs.service.job_request import JobRequest, Places
from forwardpass.jobs.service.service import JobService, command
from forwardpass.jobs.service.store import KEPT, JobState, JobStore, ServerJob

MODEL = Path("/models/judge")


def locate(name: str, version: str | None) -> tuple[str, str, Path]:
    if name != "judge":
        raise NotFound(f"there is no model {name!r}")
    return name, version or "1", MODEL


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of jobs with an input, and beside it what no job may touch."""
    made = tmp_path / "data"
    (made / "in").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    for path in (made / "in" / "a.parquet", tmp_path / "secret" / "b.parquet"):
        pq.write_table(pa.table({"x": [1.0]}), path)
    (made / "link").symlink_to(tmp_path / "secret")
    (made / "in" / "link.csv").symlink_to("/etc/passwd")
    return made


@pytest.fixture
def service(folder: Path) -> Iterator[JobService]:
    """One that is never started: its jobs wait."""
    made = JobService(folder, "http://127.0.0.1:1")
    yield made
    made.stop()


def asked(**more: Any) -> dict[str, Any]:
    return {"model": "judge", "input": "in/a.parquet", "output": "out", **more}


# What may be asked


def test_a_job_is_kept_as_it_was_asked_for(service: JobService, folder: Path) -> None:
    job = service.create(asked(where="x > 1", keep=[], map={"x": "x"}, max_rejected=0), locate)
    assert service.get(job["id"]) == job
    assert (job["state"], job["model"], job["version"], job["output"]) == ("queued", "judge", "1", "out")
    assert (job["input"], job["keep"], job["map"], job["max_rejected"]) == (("in/a.parquet",), (), {"x": "x"}, 0)
    absolute = service.create(asked(input=[str(folder / "in" / "*.parquet")], output=f"{folder}/two/"), locate)
    assert (absolute["input"], absolute["output"]) == (("in/*.parquet",), "two/")
    assert [item["id"] for item in service.list()] == [absolute["id"], job["id"]]
    service.stop()
    again = JobService(folder, "http://127.0.0.1:1")
    assert again.get(job["id"]) == job
    again.stop()


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"input": "../secret/b.parquet"}, "lies outside the folder"),
        ({"input": "/etc/passwd"}, "lies outside the folder"),
        ({"input": "file:///etc/passwd"}, "jobs may not use it"),
        ({"input": "link/b.parquet"}, "lies outside the folder"),
        ({"input": "link"}, "lies outside the folder"),
        ({"input": "link/*"}, "lies outside the folder"),
        ({"input": "*/b.parquet"}, "lies outside the folder"),
        ({"input": "in/link.csv"}, "lies outside the folder"),
        ({"input": "in"}, "lies outside the folder"),  # it holds the link
        ({"input": "in/../../secret/b.parquet"}, "lies outside the folder"),
        ({"input": ".jobs.sqlite"}, r"none begins with '\.'"),
        ({"input": "nothing.csv"}, "there is no such file"),
        ({"input": []}, "names nothing"),
        ({"input": "s3://bucket/in"}, "jobs may not use it"),
        ({"input": "in/a\0.parquet"}, "zero byte"),
        ({"output": "../out"}, "lies outside the folder"),
        ({"output": "/tmp/out"}, "lies outside the folder"),
        ({"output": "link/out"}, "lies outside the folder"),
        ({"output": ".jobs.sqlite"}, r"none begins with '\.'"),
        ({"output": "."}, r"none begins with '\.'"),
        ({"output": "in"}, "is there already"),
        ({"output": "s3://bucket/out"}, "jobs may not use it"),
        ({"output": "out.xls"}, "xls"),
        ({"outptu": "x"}, r"unknown key 'outptu'\. Did you mean 'output'"),
        ({"max_rejected": "many"}, "a number of rows or a percentage"),
        ({"workers": 0}, "`workers` must be at least 1"),
        ({"keep": ["a,b"]}, "cannot be the name of a column"),
        ({"map": {"x=": "a"}}, "cannot be the name of an input"),
        ({"where": 3}, "where"),
    ],
)
def test_what_no_job_may_be(service: JobService, changed: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        service.create(asked(**changed), locate)
    assert service.list() == []


def test_a_model_that_is_not_there(service: JobService) -> None:
    with pytest.raises(NotFound, match="there is no model 'jugde'"):
        service.create(asked(model="jugde"), locate)


def test_two_jobs_do_not_write_to_one_place(service: JobService) -> None:
    first = service.create(asked(), locate)
    with pytest.raises(InvalidInput, match=f"job {first['id']} is queued and writes there"):
        service.create(asked(output="out/"), locate)
    assert service.cancel(first["id"])["state"] == "cancelled"
    assert service.create(asked(), locate)["state"] == "queued"


def test_an_output_that_leads_away_through_a_link_is_refused(service: JobService, folder: Path) -> None:
    (folder / "out.job").symlink_to(folder.parent / "secret")
    with pytest.raises(InvalidInput, match="lies outside the folder"):
        service.create(asked(), locate)


def test_object_stores_under_their_prefix(folder: Path, s3: S3) -> None:
    places = Places(folder, [f"{s3.url}/ours/"])
    for url in (f"{s3.url}/ours", f"{s3.url}/ours/out", f"{s3.url}/ours/out.csv"):
        assert places.check(asked(output=url)).output == url
    for url in (f"{s3.url}/oursnot/x", f"{s3.url}/theirs", f"{s3.url}/ours/../theirs", f"{s3.url}/ours//x", "gs://a/b"):
        with pytest.raises(InvalidInput, match=f"under {s3.url}/ours"):
            places.check(asked(output=url))


def test_what_is_run_names_nothing_as_a_flag(folder: Path) -> None:
    request = JobRequest("judge", ("-x.csv", "a.csv"), "out", where="-x > 1", keep=("a", "b"), map={"x": ("c", "d")})
    arguments = command(ServerJob("job-1", "m", "1", "/m", request, 0.0), "http://here")[4:]
    assert arguments == [
        "--url=http://here", "--json", "--resume", "--where=-x > 1", "--keep=a,b", "--map=x=c,d", "--",
        "/m", "-x.csv", "a.csv", "out",
    ]  # fmt: skip
    away = ServerJob("job-1", "m", "1", "/m", JobRequest("judge", "a.csv", "s3://b/out"), 0.0)
    remote = command(away, "http://here")
    assert "--ledger=.ledgers/job-1.sqlite" in remote


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="cannot be used"):
        JobService(tmp_path / "none", "http://127.0.0.1:1")


# How jobs are kept


def job(number: int, state: JobState = JobState.QUEUED) -> ServerJob:
    return ServerJob(f"job-{number}", "m", "1", "/m", JobRequest("m", "in", "out"), float(number), state)


def test_a_job_changes_only_from_a_state_that_was_expected(tmp_path: Path) -> None:
    store = JobStore(tmp_path / "jobs.sqlite")
    store.add(job(1))
    assert store.change("job-1", [JobState.QUEUED], state=JobState.RUNNING).state == "running"
    assert store.change("job-1", [JobState.QUEUED], state=JobState.DONE).state == "running"
    assert store.find("job-1").state == "running"
    with pytest.raises(NotFound, match="there is no job 'job-2'"):
        store.change("job-2", [JobState.QUEUED], state=JobState.DONE)
    assert store.change("job-1", [JobState.RUNNING], state=JobState.FAILED, deaths=2).deaths == 2
    store.close()


def test_the_newest_that_ended_are_kept_and_all_that_have_not(tmp_path: Path) -> None:
    store = JobStore(tmp_path / "jobs.sqlite")
    store.add(job(0))
    for number in range(1, KEPT + 3):
        store.add(job(number, JobState.DONE))
    kept = [item.created for item in store.all()]
    assert kept == [*range(KEPT + 2, 2, -1), 0]
    store.close()


def test_words_that_are_no_job(service: JobService) -> None:
    bodies: list[Any] = [[], "x", 3, {}, {"model": "judge"}, asked(version=[1])]
    for body in bodies:
        with pytest.raises(ForwardpassError):
            service.create(body, locate)
