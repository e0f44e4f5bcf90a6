"""``forwardpass run`` over whole data sets, against plain loops, pandas and Ray Data over the same rows.

All of `fraud` is counted from the start of the process until it has ended. Of the text encoder and the
image network, where a round of seconds would mostly be the start, rows are counted between the moments
at which parts were committed.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from bench.bench import Bench, Plan
from bench.load import Load, LoadFailed
from bench.networks import WORDS, Raw, best_batch, raw_load, raw_name, start_raw
from bench.processes import StartFailed, pinned
from bench.results import FAILURES, Summary
from bench.table import Row

FRAUD = Path("examples/models/fraud")
PAYMENTS, FEWER = 1_000_000, 100_000  # rows; fewer with --quick
BATCHES = (512, 1024, 2048, 4096, 8192, 16384)  # of the raw loop of `fraud`
FIRST = 4096  # rows of the part that the start is measured with
PATIENCE = 600  # seconds for one run
PARTS = 6  # of a steady run; the first of each worker does not count
PART_ROWS = {"text": 1024, "image": 64}

RAW, ONE, TWO = "(a) raw, fraud, features in memory", "job, fraud, one worker", "job, fraud, two workers"
ALONE = "job, fraud, one worker, its parts alone"
CHUNKS, BY_ROW, RAY = "pandas, fraud, in chunks", "pandas, fraud, row by row", "Ray Data, fraud, two actors"
SORTED = "(a) raw, text sorted by length, beside jobs"
KINDS = {"text": SORTED, "image": f"{raw_name('image', 'one core')}, beside jobs"}


@dataclass(frozen=True)
class Run:
    """``forwardpass run`` of a model over a file, on these cores with one worker each."""

    model: Path
    file: Path
    rows: int
    cores: set[int]
    part_rows: int | None = None

    def command(self, output: Path) -> list[str]:
        program = str(Path(sys.executable).with_name("forwardpass"))
        options = ["--workers", str(len(self.cores)), "--json"]
        if self.part_rows:
            options += ["--part-rows", str(self.part_rows)]
        return [program, "run", str(self.model), str(self.file), str(output), *options]


def run(bench: Bench) -> list[Row]:
    """The measures of jobs."""
    return [*_payments(bench), *_network(bench, "text"), *_network(bench, "image"), _start(bench)]


def _payments(bench: Bench) -> list[Row]:
    """A million rows, from Parquet to Parquet, by us and by the others."""
    rows = FEWER if _quick(bench) else PAYMENTS
    file = _data(bench, "fraud", rows)
    one, two = (Run(FRAUD, file, rows, cores) for cores in (bench.cores.server, bench.cores.both))
    batch = 0
    with _raw(bench, file) as raw:
        batch = max(BATCHES, key=lambda size: raw_load([raw], size, bench.plan.slow / 20).rate)
        for _ in range(bench.plan.rounds):
            bench.results.attempt(RAW, partial(raw_load, [raw], batch, bench.plan.slow / 4))
            bench.results.attempt(ONE, partial(_whole, bench, one))
            bench.results.attempt(CHUNKS, partial(_rival, bench, "pandas-chunks", file, bench.cores.server))
            bench.results.attempt(BY_ROW, partial(_rival, bench, "pandas-rows", file, bench.cores.server))
            if len(bench.cores.both) > 1:
                bench.results.attempt(TWO, partial(_whole, bench, two))
                bench.results.attempt(RAY, partial(_rival, bench, "ray", file, bench.cores.both))
    what = f"job, fraud, {rows:,} rows from Parquet to Parquet"
    left_out = f"(a) is the forward pass alone, in batches of {batch}: no file, no preprocessing, no decision"
    if bench.results.why_not(ALONE, RAW) is None:
        alone = bench.results.ratio((ALONE, "rate"), (RAW, "rate")).median
        left_out += f"; the job's parts without its start: {alone:.2f}"
    by_row = "a loop over iterrows, timed on its first 5,000 rows; reading the file is not counted for it"
    return [
        _ratio(bench, f"{what}, one core", ONE, RAW, "of (a)", 0.6, left_out),
        _ratio(bench, f"{what}, one core", ONE, BY_ROW, "x pandas row by row", 5, by_row),
        _ratio(bench, f"{what}, one core", ONE, CHUNKS, "x pandas in chunks", 5, "chunks of 10,000, features at once"),
        _ratio(bench, f"{what}, two cores", TWO, RAY, "x Ray Data", 2, "the start of Ray's cluster is not counted"),
        _ratio(bench, f"{what}, two workers", TWO, ONE, "x one worker", 1.9, "the start of the job is counted"),
    ]


def _network(bench: Bench, kind: str) -> list[Row]:
    """A job of ``text`` or ``image`` on one core, beside the same work in a plain loop, and on two."""
    plain, (one, two) = KINDS[kind], _names(kind)
    with start_raw(bench, "sorted" if kind == "text" else kind, min(bench.cores.server)) as raw:
        batch = best_batch(bench, raw)
        for _ in range(bench.plan.rounds):
            bench.results.attempt(plain, partial(raw_load, [raw], batch, bench.plan.slow))
            bench.results.attempt(one, partial(_steady, bench, _steady_run(bench, kind, bench.cores.server)))
            if len(bench.cores.both) > 1:
                bench.results.attempt(two, partial(_steady, bench, _steady_run(bench, kind, bench.cores.both)))
    note = f"(a) runs batches of {batch}" + (", sorted by length" if kind == "text" else "")
    what = f"job, {WORDS[kind]}"
    return [
        _ratio(bench, f"{what}, one core, from Parquet to Parquet", one, plain, "of (a)", 0.95, note),
        _ratio(bench, f"{what}, two workers on two cores", two, one, "x one worker", 1.9),
    ]


def _start(bench: Bench) -> Row:
    """Seconds from the start of the process until the first rows lie in the output."""
    measure = f"job, from process start to the first {FIRST:,} rows written, fraud"
    rows = FEWER
    asked = Run(FRAUD, _data(bench, "fraud", rows), rows, bench.cores.server, part_rows=FIRST)
    try:
        seconds = [_first_rows(bench, asked) for _ in range(bench.plan.starts + 1)][1:]  # one reads files from the disk
    except FAILURES as reason:
        return Row(measure, None, "s", 2.0, False, str(reason))
    return Row(measure, Summary.of(seconds), "s", 2.0, False, f"{len(seconds)} starts on one core, files in the cache")


def _whole(bench: Bench, asked: Run) -> Load:
    """All rows by all seconds of the process. What one worker's parts took, as the manifest says, is kept beside it."""
    with _output(bench) as output:
        started = time.perf_counter()
        seconds_of_parts = _do(bench, asked, output)
        whole = Load(asked.rows, time.perf_counter() - started, p50=0.0, p99=0.0, client_cpu=0.0)
    if len(asked.cores) == 1:
        bench.results.attempt(ALONE, lambda: replace(whole, seconds=seconds_of_parts))
    return whole


def _steady(bench: Bench, asked: Run) -> Load:
    """Rows of the parts that were committed after each worker's first, by the seconds in which they were."""
    with _output(bench) as output:
        _do(bench, asked, output)
        commits = sorted(file.stat().st_mtime_ns for file in output.glob("part-*"))
    return steady_load(commits, asked.part_rows or 0, len(asked.cores))


def steady_load(commits: list[int], part_rows: int, workers: int) -> Load:
    """From the times (ns) of all commits of even parts. Raises ``LoadFailed`` where there are too few."""
    if len(commits) <= workers:
        raise LoadFailed(f"{len(commits)} parts are too few for {workers} workers")
    seconds = (commits[-1] - commits[workers - 1]) / 1e9
    return Load((len(commits) - workers) * part_rows, seconds, p50=0.0, p99=0.0, client_cpu=0.0)


def _first_rows(bench: Bench, asked: Run) -> float:
    with _output(bench) as output:
        first = output / "part-00000.parquet"
        started = time.perf_counter()
        with pinned(asked.command(output), asked.cores, {}, **_quiet()) as process:
            while not first.exists():
                if process.poll() not in (None, 0) or time.perf_counter() - started > PATIENCE:
                    raise LoadFailed(f"no rows were written; exit status {process.poll()}")
                time.sleep(0.002)
            return time.perf_counter() - started


def _do(bench: Bench, asked: Run, output: Path) -> float:
    """Run it to its end, and give the seconds of its parts; every row must have come out."""
    printed = _finished(bench, asked.command(output), asked.cores)
    event = json.loads(printed.strip().splitlines()[-1])
    if event["event"] != "done" or event["manifest"]["rows_out"] != asked.rows:
        raise LoadFailed(f"the job did not give {asked.rows} rows: {str(event)[:300]}")
    return float(event["manifest"]["seconds"])


def _rival(bench: Bench, way: str, file: Path, cores: set[int]) -> Load:
    with _output(bench) as output:
        command = [*_rivals(way), str(file), str(output)]
        answer = json.loads(_finished(bench, command, cores).strip().splitlines()[-1])
    return Load(answer["rows"], answer["seconds"], p50=0.0, p99=0.0, client_cpu=0.0)


def _finished(bench: Bench, command: list[str], cores: set[int]) -> str:
    """What a program printed until it ended well."""
    log = bench.log("jobs")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as errors, pinned(command, cores, {}, stdout=subprocess.PIPE, stderr=errors.fileno()) as process:
        try:
            printed, _ = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            raise LoadFailed(f"{' '.join(command[:4])} had not ended after {PATIENCE} s") from None
    if process.returncode:
        said = (log.read_text() or printed).strip()[-300:]
        raise LoadFailed(f"{' '.join(command[:4])} ended with {process.returncode}: {said}")
    return str(printed)


@contextmanager
def _raw(bench: Bench, file: Path) -> Iterator[Raw]:
    """The plain loop of `fraud` on the server's core, its features in memory."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with pinned([*_rivals("raw"), str(file)], bench.cores.server, {}, **pipes) as process:
        assert process.stdout is not None  # it was started with pipes
        if process.stdout.readline().strip() != "ready":
            raise StartFailed("the plain loop of fraud did not start")
        yield process


@contextmanager
def _output(bench: Bench) -> Iterator[Path]:
    """A place for an output where nothing is, nor will be."""
    output = bench.work / "jobs" / "output"
    with ExitStack() as stack:
        for path in (output, output.with_name("output.job")):
            _remove(path)
            stack.callback(_remove, path)
        yield output


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _data(bench: Bench, kind: str, rows: int) -> Path:
    """The Parquet file of a kind, made where it is not there; another program, or another tokenizer, needs another."""
    file = bench.work / "jobs" / f"{kind}_{rows}.parquet"
    source = Path(__file__).with_name("jobs_data.py")
    if not file.is_file() or file.stat().st_mtime < source.stat().st_mtime:
        subprocess.run([sys.executable, "-m", "bench.jobs_data", kind, str(file), str(rows)], check=True)
    return file


def _steady_run(bench: Bench, kind: str, cores: set[int]) -> Run:
    part_rows = PART_ROWS[kind] // (4 if _quick(bench) else 1)
    rows = part_rows * PARTS
    return Run(bench.model(kind), _data(bench, kind, rows), rows, cores, part_rows)


def _rivals(way: str) -> list[str]:
    return [sys.executable, "-m", "bench.jobs_rivals", way, str(FRAUD / "model.onnx")]


def _quiet() -> dict[str, int]:
    return {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def _quick(bench: Bench) -> bool:
    return bench.plan.slow < Plan().slow


def _names(kind: str) -> tuple[str, str]:
    return f"job, {kind}, one worker", f"job, {kind}, two workers"


def _ratio(bench: Bench, measure: str, ours: str, theirs: str, unit: str, target: float, note: str = "") -> Row:
    if why := bench.results.why_not(ours, theirs):
        return Row(measure, None, unit, target, True, why)
    return Row(measure, bench.results.ratio((ours, "rate"), (theirs, "rate")), unit, target, True, note)
