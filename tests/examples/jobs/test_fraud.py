"""The million payments: made in seconds, the same every time, and scored by the README's commands."""

from __future__ import annotations

import ast
import time
from pathlib import Path

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from examples.jobs.fraud.make_transactions import transactions, write_days
from examples.training.fraud import generate
from tests.examples.jobs.readme import commands, run

MAKE, RUN, DAY, SOME, DECIDED = commands("fraud")


def test_payments_are_the_same_every_time_and_not_those_trained_on() -> None:
    table = transactions(5_000)
    assert table.equals(transactions(5_000))
    assert 0 < table["distance_from_home"].null_count < 1_000
    assert table["amount"].to_pylist()[:50] != generate(5_000)[0]["amount"].tolist()[:50]


def test_days_hold_every_payment_once(tmp_path: Path) -> None:
    write_days(transactions(1_000), 3, tmp_path)
    assert sorted(file.parent.name for file in tmp_path.glob("*/*.parquet")) == [
        f"day=2026-10-0{day}" for day in (1, 2, 3)
    ]
    whole = ds.dataset(tmp_path, partitioning="hive").to_table()
    assert sorted(whole["id"].to_pylist()) == list(range(1_000))


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_readmes_commands(tmp_path: Path) -> None:
    run(f"{MAKE} --rows 40000", tmp_path)
    for command in (RUN, DAY, SOME):
        run(command, tmp_path)
    scored = pq.read_table(tmp_path / "scored")
    assert scored.schema.names == ["id", "fraud", "day", "fraud_probability", "decision"]
    assert scored["id"].to_pylist() == list(range(40_000))
    assert len(pq.read_table(tmp_path / "third")) == 4_000
    assert 0 < len(pq.read_table(tmp_path / "large")) < 4_000
    shares = {row["decision"]: row["fraud_mean"] for row in ast.literal_eval(run(DECIDED, tmp_path))}
    assert shares["approve"] < 0.01 < 0.1 < shares["review"] < 0.6 < shares["block"]


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_million_take_less_than_a_minute(tmp_path: Path) -> None:
    started = time.perf_counter()
    run(MAKE, tmp_path)
    assert time.perf_counter() - started < 60
    whole = ds.dataset(tmp_path / "payments", partitioning="hive")
    assert whole.count_rows() == 1_000_000
