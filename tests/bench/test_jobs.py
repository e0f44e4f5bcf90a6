"""The jobs' data sets suit the models, the rivals do the same work, and steady rates count what they say."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from bench.bench import QUICK, Bench, Cores
from bench.load import LoadFailed

import forwardpass
from bench import jobs, jobs_data, jobs_rivals

FRAUD = Path(__file__).resolve().parents[2] / "examples" / "models" / "fraud"
SECOND = 10**9


@pytest.fixture(scope="module")
def payments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("payments") / "fraud.parquet"
    jobs_data.write("fraud", file, 2000)
    return file


def test_payments_are_the_same_every_time_and_some_have_no_distance() -> None:
    table = jobs_data.payments(500)
    assert table.equals(jobs_data.payments(500))
    assert 20 < table["distance_from_home"].null_count < 100
    assert table["id"].to_pylist() == list(range(500))


def test_texts_come_in_another_order_each_time_round() -> None:
    column = jobs_data.texts(600)["text"].to_pylist()
    assert len(column) == 600
    assert sorted(column[:256]) == sorted(column[256:512])
    assert column[:256] != column[256:512]


def test_the_rivals_answer_as_the_engine_does(payments: Path, tmp_path: Path) -> None:
    frame = pd.read_parquet(payments)
    columns = {name: frame[name].to_numpy() for name in jobs_rivals.INPUTS}
    numbers = {name: column.astype(np.float32) for name, column in columns.items() if column.dtype.kind in "fi"}
    expected = forwardpass.load(FRAUD, threads=1).predict({**columns, **numbers})
    answer = jobs_rivals.pandas_chunks(FRAUD / "model.onnx", payments, tmp_path / "chunks.parquet")
    assert answer["rows"] == 2000
    scored = pq.read_table(tmp_path / "chunks.parquet")
    np.testing.assert_allclose(scored["fraud_probability"].to_numpy(), expected["fraud_probability"], atol=1e-6)
    assert scored["decision"].to_pylist() == list(expected["decision"])
    assert len(set(expected["decision"])) == 3


def test_row_by_row_is_the_same_as_in_chunks(payments: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_rivals, "BY_ROW", 200)
    jobs_rivals.pandas_chunks(FRAUD / "model.onnx", payments, tmp_path / "chunks.parquet")
    assert jobs_rivals.pandas_rows(FRAUD / "model.onnx", payments, tmp_path / "rows.parquet")["rows"] == 200
    chunks, rows = (pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("chunks", "rows"))
    np.testing.assert_allclose(rows["fraud_probability"], chunks["fraud_probability"][:200], atol=1e-6)
    assert rows["decision"].tolist() == chunks["decision"][:200].tolist()
    assert rows["id"].tolist() == chunks["id"][:200].tolist()


def test_the_raw_loop_runs_the_features_in_memory(payments: Path) -> None:
    work = jobs_rivals.RawPayments(FRAUD / "model.onnx", payments)
    answer = work.timed(batch=512, seconds=0.01)
    assert answer["rows"] % 512 == 0
    assert answer["rows"] >= 512
    assert answer["seconds"] >= 0.01


@pytest.mark.parametrize(("workers", "rate"), [(1, 100.0), (2, 200.0)])
def test_steady_rates_leave_the_first_part_of_each_worker_out(workers: int, rate: float) -> None:
    commits = [(5 + done) * SECOND for done in range(5) for _ in range(workers)]  # all start at once
    load = jobs.steady_load(commits, 100, workers)
    assert load.requests == 400 * workers
    assert load.rate == pytest.approx(rate)


def test_a_job_counts_only_where_every_row_came_out(payments: Path, tmp_path: Path) -> None:
    cores = {min(os.sched_getaffinity(0))}
    bench = Bench(tmp_path, QUICK, Cores(cores, cores, cores))
    asked = jobs.Run(FRAUD, payments, 2000, cores)
    bench.results.attempt("whole", partial(jobs._whole, bench, asked))
    bench.results.attempt("too few", partial(jobs._whole, bench, replace(asked, rows=2001)))
    assert bench.results.loads["whole"][0].requests == 2000
    assert bench.results.loads[jobs.ALONE][0].seconds < bench.results.loads["whole"][0].seconds
    assert "did not give 2001 rows" in bench.results.failed["too few"]
    assert not list((tmp_path / "jobs").iterdir())  # nothing is left for the next


def test_steady_rates_need_a_part_more_than_workers() -> None:
    with pytest.raises(LoadFailed, match="2 parts are too few for 2 workers"):
        jobs.steady_load([0, SECOND], 100, 2)
