"""Whole jobs on real files with real workers: what comes out, what is set aside, what is refused."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.jobs.models import BAD, DEADLY, POISON, judging

from forwardpass.errors import BackendFailed, InvalidInput, InvalidModel, NotFound
from forwardpass.jobs.job import Job
from forwardpass.jobs.ledger import Ledger
from forwardpass.jobs.manifest import Manifest
from forwardpass.jobs.progress import Snapshot
from forwardpass.jobs.run import Options, Run
from forwardpass.jobs.storage import create_storage


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return judging(tmp_path_factory.mktemp("models") / "judge")


def table(values: Sequence[float]) -> pa.Table:
    return pa.table({"id": pa.array(range(len(values)), pa.int32()), "x": pa.array(values, pa.float64())})


def written(tmp_path: Path, values: Sequence[float], name: str = "in.parquet") -> Path:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table(values), path)
    return path


def run(
    model: Path, source: Path | str, output: Path, *, workers: int = 1, resume: bool = False, **asked: Any
) -> Manifest:
    most = asked.pop("max_rejected", None)
    job = Job(str(model), (str(source),), str(output), **asked)
    return Run(job, Options(workers, resume, max_rejected=most), lambda snapshot: None).run()


def rows(output: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(output).to_pylist()
    return found


def rejected(output: Path) -> list[dict[str, Any]]:
    files = sorted((output.parent / f"{output.name}.job" / "rejected").glob("*.jsonl"))
    return [msgspec.json.decode(line) for file in files for line in file.read_bytes().splitlines()]


def test_every_row_has_its_answer_in_order(model: Path, tmp_path: Path) -> None:
    values = np.arange(1000) + 1000.0
    manifest = run(model, written(tmp_path, values.tolist()), tmp_path / "out", workers=2, part_rows=128)
    assert rows(tmp_path / "out") == [{"id": at, "y": value} for at, value in enumerate(values)]
    assert (manifest.rows_in, manifest.rows_out, manifest.rejected, manifest.left_out) == (1000, 1000, 0, 0)
    assert len(manifest.parts) == 8
    assert manifest == msgspec.json.decode((tmp_path / "out.job" / "manifest.json").read_bytes(), type=Manifest)
    assert sorted(manifest.model.files) == ["model.onnx", "model.yaml", "steps.py"]


def test_bad_rows_are_set_aside_with_step_and_reason(model: Path, tmp_path: Path) -> None:
    values = [1.0, BAD, 2.0, POISON, None, 3.0]
    manifest = run(model, written(tmp_path, values), tmp_path / "out")  # type: ignore[arg-type]
    assert [row["y"] for row in rows(tmp_path / "out")] == [1.0, 2.0, 3.0]
    assert (manifest.rows_in, manifest.rows_out, manifest.rejected) == (6, 3, 3)
    assert [
        (line["row"], line["step"], line["reason"], line["values"]["x"]) for line in rejected(tmp_path / "out")
    ] == [
        (1, "judge", "thirteen", BAD),
        (3, "judge", "step 'judge' failed: RuntimeError: poisoned", POISON),
        (4, "inputs", "input 'x': is missing (null or empty); send a value of FP32", None),
    ]


def test_a_row_that_ends_the_worker_costs_its_part_alone(model: Path, tmp_path: Path) -> None:
    source = written(tmp_path, [1.0] * 10 + [DEADLY] + [2.0] * 9)
    with pytest.raises(BackendFailed) as failed:
        run(model, source, tmp_path / "out", part_rows=5)
    assert "1 of 4 parts (5 rows) are missing" in failed.value.message
    assert "part 2: the worker ended (exit status 9)" in failed.value.message
    assert [row["id"] for row in rows(tmp_path / "out")] == [*range(10), *range(15, 20)]
    assert not (tmp_path / "out.job" / "manifest.json").exists()


def test_too_many_rejected_rows_stop_it_and_a_higher_limit_goes_on(model: Path, tmp_path: Path) -> None:
    source = written(tmp_path, [BAD, 1.0] * 50)
    with pytest.raises(BackendFailed, match="rows were rejected, more than --max-rejected allows"):
        run(model, source, tmp_path / "out", part_rows=10, max_rejected=0.1)
    with pytest.raises(BackendFailed, match="more than --max-rejected allows"):
        run(model, source, tmp_path / "out", part_rows=10, max_rejected=0.01, resume=True)
    assert not (tmp_path / "out.job" / "manifest.json").exists()
    manifest = run(model, source, tmp_path / "out", part_rows=10, max_rejected=50, resume=True)
    assert (manifest.rows_out, manifest.rejected) == (50, 50)


def test_where(model: Path, tmp_path: Path) -> None:
    source = written(tmp_path, [float(n) for n in range(100)])
    manifest = run(model, source, tmp_path / "out", where="id >= 90 and x != 95", part_rows=30)
    assert [row["id"] for row in rows(tmp_path / "out")] == [90, 91, 92, 93, 94, 96, 97, 98, 99]
    assert (manifest.rows_in, manifest.rows_out, manifest.left_out) == (100, 9, 91)


def test_partitioned_folders_are_columns(model: Path, tmp_path: Path) -> None:
    for day, values in {"1": [1.0, 2.0], "2": [3.0]}.items():
        written(tmp_path, values, f"in/kind=a/day={day}/data.parquet")
    run(model, tmp_path / "in", tmp_path / "out", where="day == 2 or x < 2")
    assert rows(tmp_path / "out") == [
        {"id": 0, "kind": "a", "day": 1, "y": 1.0},
        {"id": 0, "kind": "a", "day": 2, "y": 3.0},
    ]


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl", "arrow"])
def test_one_file_of_every_format(model: Path, tmp_path: Path, suffix: str) -> None:
    source = written(tmp_path, [float(n) for n in range(40)])
    output = tmp_path / f"out.{suffix}"
    manifest = run(model, source, output, workers=2, part_rows=7)
    again = tmp_path / f"again.{suffix}"
    run(model, output, again, keep=("id",), map={"x": ("y",)})
    found = {"parquet": pq.read_table, "csv": _csv, "jsonl": _jsonl, "arrow": _arrow}[suffix](again)
    good = [n for n in range(40) if n != BAD]
    assert found.to_pydict() == {"id": good, "y": [float(n) for n in good]}
    assert list((tmp_path / f"out.{suffix}.job" / "parts").iterdir()) == []
    (part,) = manifest.parts
    assert (part.file, part.rows, part.rejected) == (output.name, 39, 1)
    assert part.sha256 == hashlib.sha256(output.read_bytes()).hexdigest()


def _csv(path: Path) -> pa.Table:
    from pyarrow import csv

    return csv.read_csv(path)


def _jsonl(path: Path) -> pa.Table:
    return pa.Table.from_pylist([msgspec.json.decode(line) for line in path.read_bytes().splitlines()])


def _arrow(path: Path) -> pa.Table:
    with pa.ipc.open_file(path) as file:
        return file.read_all()


def test_the_bytes_do_not_depend_on_the_number_of_workers(model: Path, tmp_path: Path) -> None:
    source = written(tmp_path, [float(n % 20) for n in range(300)])
    for workers in (1, 2):
        run(model, source, tmp_path / f"by{workers}", workers=workers, part_rows=50)
    assert contents(tmp_path / "by1") == contents(tmp_path / "by2")
    assert contents(tmp_path / "by1.job" / "rejected") == contents(tmp_path / "by2.job" / "rejected")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# Going on, and what is refused


def test_an_output_that_is_complete_or_taken_is_left_alone(model: Path, tmp_path: Path) -> None:
    source = written(tmp_path, [1.0])
    first = run(model, source, tmp_path / "out")
    with pytest.raises(InvalidInput, match="is complete already"):
        run(model, source, tmp_path / "out")
    assert run(model, source, tmp_path / "out", resume=True) == first
    written(tmp_path, [2.0])
    with pytest.raises(InvalidInput, match=rf"input {source} has changed"):
        run(model, source, tmp_path / "out", resume=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("x")
    with pytest.raises(InvalidInput, match="there is something already"):
        run(model, source, tmp_path / "mine", resume=True)


def unfinished(model: Path, tmp_path: Path) -> Path:
    """A run of four parts that was stopped before its end."""
    source = written(tmp_path, [1.0, 2.0, 3.0, BAD])
    with pytest.raises(BackendFailed, match="rows were rejected"):
        run(model, source, tmp_path / "out", part_rows=1, max_rejected=0)
    return source


def test_a_run_that_has_not_ended_is_not_begun_again_by_accident(model: Path, tmp_path: Path) -> None:
    source = unfinished(model, tmp_path)
    with pytest.raises(InvalidInput, match="holds a run that has not ended; go on with it"):
        run(model, source, tmp_path / "out", part_rows=1)
    (tmp_path / "out.job" / "ledger.sqlite").unlink()
    with pytest.raises(InvalidInput, match="holds a run that has not ended"):
        run(model, source, tmp_path / "out", part_rows=1)


def test_going_on_after_a_change_is_refused_by_name(tmp_path: Path) -> None:
    model = judging(tmp_path / "models" / "judge")
    source = unfinished(model, tmp_path)
    with pytest.raises(InvalidInput, match="--part-rows has changed, --where has changed"):
        run(model, source, tmp_path / "out", part_rows=2, where="x < 3", resume=True)
    (model / "model.yaml").write_text("description: other\npreprocess: [{step: judge}]\n")
    with pytest.raises(InvalidInput, match=r"model file model\.yaml has changed"):
        run(model, source, tmp_path / "out", part_rows=1, resume=True)
    judging(tmp_path / "models" / "judge")
    os.utime(source)
    with pytest.raises(InvalidInput, match=rf"input {source} has changed"):
        run(model, source, tmp_path / "out", part_rows=1, resume=True)


def test_a_part_that_was_lost_is_done_again(model: Path, tmp_path: Path) -> None:
    unfinished(model, tmp_path)
    (tmp_path / "out" / "part-00001.parquet").unlink()
    (tmp_path / "out" / "part-00002.parquet").write_bytes(b"")
    manifest = run(model, tmp_path / "in.parquet", tmp_path / "out", part_rows=1, resume=True)
    assert [part.rows for part in manifest.parts] == [1, 1, 1, 0]
    assert [row["y"] for row in rows(tmp_path / "out")] == [1.0, 2.0, 3.0]


def test_a_lost_ledger_is_made_again(model: Path, tmp_path: Path) -> None:
    source = unfinished(model, tmp_path)
    before = contents(tmp_path / "out")
    (tmp_path / "out.job" / "ledger.sqlite").unlink()
    assert len(before) == 4
    run(model, source, tmp_path / "out", part_rows=1, resume=True)
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("asked", "kind", "says"),
    [
        ({"map": {"x": ("amuont",)}}, InvalidInput, "there is no column 'amuont'"),
        ({"where": "amount > 1"}, InvalidInput, "there is no column 'amount'"),
        ({"keep": ("y",)}, InvalidInput, "there is no column 'y'"),
        ({"format": "parquett"}, InvalidInput, "parquett"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_written(
    model: Path, tmp_path: Path, asked: dict[str, Any], kind: type[Exception], says: str
) -> None:
    source = written(tmp_path, [1.0])
    with pytest.raises(kind, match=says):
        run(model, source, tmp_path / "out", **asked)
    assert [path.name for path in tmp_path.iterdir()] == ["in.parquet"]


def test_a_model_or_input_that_is_not_there(model: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        run(tmp_path / "none", written(tmp_path, [1.0]), tmp_path / "out")
    with pytest.raises(NotFound):
        run(model, tmp_path / "none.parquet", tmp_path / "out")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(InvalidModel):
        run(tmp_path / "broken", tmp_path / "in.parquet", tmp_path / "out")


def test_progress_goes_from_none_to_all(model: Path, tmp_path: Path) -> None:
    seen: list[Snapshot] = []
    job = Job(str(model), (str(written(tmp_path, [1.0, BAD] * 20)),), str(tmp_path / "out"), part_rows=10)
    Run(job, Options(1), seen.append).run()
    assert seen[0].rows == 40
    assert [item.rows_done for item in seen] == sorted(item.rows_done for item in seen)
    last = seen[-1]
    assert (last.rows_done, last.rejected, last.parts_done, last.parts, last.parts_failed) == (40, 20, 4, 4, 0)


# When the ground gives way


def test_no_space_left_stops_it_at_once_and_room_lets_it_go_on(model: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    source = written(tmp_path, [float(n) for n in range(1_000, 61_000)])
    with small_disk(disk, "size=300k"):
        with pytest.raises(BackendFailed, match="No space left on device; make room, and go on with --resume"):
            run(model, source, disk / "out", part_rows=6_000)
        assert not (disk / "out.job" / "manifest.json").exists()
        done = len(list((disk / "out").glob("part-*")))
        assert 0 < done < 10
        subprocess.run(["mount", "-o", "remount,size=9m", str(disk)], check=True)
        manifest = run(model, source, disk / "out", part_rows=6_000, resume=True)
        assert manifest.rows_out + manifest.rejected == 60_000
        assert len(rows(disk / "out")) == manifest.rows_out


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """A file system of its own; skips where this user may not mount one."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_file_that_is_broken_in_the_middle_costs_its_parts_alone(model: Path, tmp_path: Path) -> None:
    for name in "abc":
        written(tmp_path, [float(n) for n in range(1000, 1100)], f"in/{name}.parquet")
    path = tmp_path / "in" / "b.parquet"
    content = bytearray(path.read_bytes())
    content[4:200] = b"\xff" * 196
    path.write_bytes(content)
    with pytest.raises(BackendFailed, match="1 of 3 parts") as failed:
        run(model, tmp_path / "in", tmp_path / "out", part_rows=100)
    assert f"{path}: cannot be read as parquet" in failed.value.message
    assert len(rows(tmp_path / "out")) == 200


def broken_among(tmp_path: Path) -> Path:
    """A folder of three files with a hundred rows each; the one in the middle has no end."""
    for at, name in enumerate("abc"):
        written(tmp_path, [1000.0 + at + n for n in range(100)], f"in/{name}.parquet")
    path = tmp_path / "in" / "b.parquet"
    path.write_bytes(path.read_bytes()[:-10])
    return path


def test_a_file_without_an_end_costs_its_rows_alone_until_it_is_mended(model: Path, tmp_path: Path) -> None:
    path = broken_among(tmp_path)
    notes: list[str] = []
    job = Job(str(model), (str(tmp_path / "in"),), str(tmp_path / "out"), part_rows=100)
    for resume in (False, True):
        with pytest.raises(BackendFailed, match=r"1 of 3 parts \(all rows of 1 unreadable file\)") as failed:
            Run(job, Options(1, resume), lambda snapshot: None, notes.append).run()
        assert f"part 1: {path}: cannot be read as parquet" in failed.value.message
    assert f"{path}: cannot be read as parquet" in notes[0]
    assert len(rows(tmp_path / "out")) == 200
    os.utime(path)  # something else, and still broken
    with pytest.raises(BackendFailed, match="1 of 3 parts"):
        run(model, tmp_path / "in", tmp_path / "out", part_rows=100, resume=True)
    plan = tmp_path / "out.job" / "plan.json"
    planned = plan.read_bytes()
    values = [5000.0 + n for n in range(250)]
    written(tmp_path, values, "in/b.parquet")
    manifest = run(model, tmp_path / "in", tmp_path / "out", part_rows=100, resume=True)
    assert [part.rows for part in manifest.parts] == [100, 250, 100]
    assert [row["y"] for row in rows(tmp_path / "out")][100:350] == values
    assert run(model, tmp_path / "in", tmp_path / "out", part_rows=100, resume=True) == manifest
    plan.write_bytes(planned)  # as if killed after the ledger was told, and before this file was
    (tmp_path / "out.job" / "manifest.json").unlink()
    again = run(model, tmp_path / "in", tmp_path / "out", part_rows=100, resume=True)
    assert again.parts == manifest.parts
    assert plan.read_bytes() != planned
    written(tmp_path, values, "in/b.parquet")
    with pytest.raises(InvalidInput, match=rf"input {path} has changed"):
        run(model, tmp_path / "in", tmp_path / "out", part_rows=100, resume=True)


@pytest.mark.parametrize("count", [250, 0])
def test_a_mended_file_is_one_part_also_where_the_ledger_was_lost(model: Path, tmp_path: Path, count: int) -> None:
    broken_among(tmp_path)
    with pytest.raises(BackendFailed, match="unreadable"):
        run(model, tmp_path / "in", tmp_path / "out", part_rows=100)
    written(tmp_path, [1.0] * count, "in/b.parquet")
    (tmp_path / "out.job" / "ledger.sqlite").unlink()
    manifest = run(model, tmp_path / "in", tmp_path / "out", part_rows=100, resume=True)
    assert [part.rows for part in manifest.parts] == [100, count, 100]


def test_where_no_file_can_be_read_nothing_is_begun(model: Path, tmp_path: Path) -> None:
    path = broken_among(tmp_path)
    with pytest.raises(InvalidInput, match=f"{path}: cannot be read as parquet"):
        run(model, path, tmp_path / "out")
    assert not (tmp_path / "out.job").exists()


def test_two_runs_at_the_same_time(model: Path, tmp_path: Path) -> None:
    source = written(tmp_path, [1.0])
    with closing(Ledger(tmp_path / "out.job" / "ledger.sqlite")):
        with pytest.raises(InvalidInput, match="another run works on this output"):
            run(model, source, tmp_path / "out", resume=True)
        assert not (tmp_path / "out").exists()
    assert run(model, source, tmp_path / "out").rows_out == 1


def test_an_object_store_from_end_to_end(model: Path, tmp_path: Path, s3: Any) -> None:
    source = written(tmp_path, [1.0, BAD, 2.0])
    storage = create_storage(s3.url)
    for name in ("day=1/a.parquet", "day=2/b.parquet"):
        local = storage.temporary(f"{s3.url}/in/{name}")
        local.write_bytes(source.read_bytes())
        storage.publish(local, f"{s3.url}/in/{name}")
    job = Job(str(model), (f"{s3.url}/in",), f"{s3.url}/out", part_rows=2)
    options = Options(2, ledger=tmp_path / "ledger.sqlite")
    manifest = Run(job, options, lambda snapshot: None).run()
    assert (manifest.rows_out, manifest.rejected) == (4, 2)
    parts = storage.list(f"{s3.url}/out")
    tables = [pq.read_table(pa.BufferReader(storage.read(entry.name))) for entry in parts]
    assert pa.concat_tables(tables).to_pylist() == [
        {"id": row, "day": day, "y": value} for day in (1, 2) for row, value in ((0, 1.0), (2, 2.0))
    ]
    assert storage.find(f"{s3.url}/out.job/manifest.json") is not None
    assert len(storage.list(f"{s3.url}/out.job/rejected")) == 2


def test_a_part_on_an_object_store_is_never_replaced(model: Path, tmp_path: Path, s3: Any) -> None:
    """The ledger is lost each time: all parts are done again, as by a second machine."""
    job = Job(str(model), (str(written(tmp_path, [1.0, BAD, 2.0])),), f"{s3.url}/out", part_rows=1)
    storage = create_storage(s3.url)

    def again(ledger: str, resume: bool = True) -> Manifest:
        storage.delete(f"{s3.url}/out.job/manifest.json")
        return Run(job, Options(1, resume, tmp_path / ledger), lambda snapshot: None).run()

    first = again("first", resume=False)
    before = storage.list(f"{s3.url}/out")
    assert again("second").parts == first.parts
    assert storage.list(f"{s3.url}/out") == before
    part = f"{s3.url}/out/part-00001.parquet"
    storage.delete(part)
    storage.create(part, b"another's")
    with pytest.raises(BackendFailed, match=f"1 of 3 parts .* part 1: {part}: is there already, with other content"):
        again("third")
    assert storage.read(part) == b"another's"
    storage.delete(part)
    assert again("third").parts == first.parts


def test_a_part_on_an_object_store_that_is_not_as_it_was_committed_is_done_again(
    model: Path, tmp_path: Path, s3: Any
) -> None:
    job = Job(str(model), (str(written(tmp_path, [1.0, 2.0])),), f"{s3.url}/out", part_rows=1)
    storage = create_storage(s3.url)
    first = Run(job, Options(1, ledger=tmp_path / "ledger"), lambda snapshot: None).run()
    for name in ("out.job/manifest.json", "out/part-00001.parquet"):
        storage.delete(f"{s3.url}/{name}")
    storage.create(f"{s3.url}/out/part-00001.parquet", b"cut off")
    assert Run(job, Options(1, True, tmp_path / "ledger"), lambda snapshot: None).run().parts == first.parts


def test_a_folder_may_have_a_dot_in_its_name(model: Path, tmp_path: Path) -> None:
    run(model, written(tmp_path, [1.0]), tmp_path / "scored.2026-11-22")
    assert [path.name for path in (tmp_path / "scored.2026-11-22").iterdir()] == ["part-00000.parquet"]
    assert (tmp_path / "scored.2026-11-22.job" / "manifest.json").exists()
    with pytest.raises(InvalidInput, match=r"out\.xlsx: cannot write '\.xlsx'.*'/'"):
        run(model, tmp_path / "in.parquet", tmp_path / "out.xlsx")


def test_a_worker_that_would_load_another_model_stops_the_job(tmp_path: Path) -> None:
    """The model changes after the first part, and then the worker dies and is replaced."""
    model = judging(tmp_path / "models" / "judge", delay=0.01)
    source = written(tmp_path, [float(n + 1000) for n in range(10)] + [DEADLY])
    before = (model / "model.onnx").read_bytes()
    other = onnx.load_from_string(before)
    other.producer_name = "another"

    def change(snapshot: Snapshot) -> None:
        if snapshot.parts_done and (model / "model.onnx").read_bytes() == before:
            (model / "model.onnx").write_bytes(other.SerializeToString())

    job = Job(str(model), (str(source),), str(tmp_path / "out"), part_rows=1)
    with pytest.raises(InvalidModel, match=r"the model changed during the job \(model\.onnx\)"):
        Run(job, Options(1), change).run()
    assert not (tmp_path / "out.job" / "manifest.json").exists()
    assert {row["y"] - 1000 - row["id"] for row in rows(tmp_path / "out")} == {0.0}
    with pytest.raises(InvalidInput, match=r"model file model\.onnx has changed"):
        run(model, source, tmp_path / "out", part_rows=1, resume=True)
    (model / "model.onnx").write_bytes(before)
    with pytest.raises(BackendFailed, match="1 of 11 parts"):
        run(model, source, tmp_path / "out", part_rows=1, resume=True)
