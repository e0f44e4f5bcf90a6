"""Rows of a window on a real engine: by length, in batches, in their own order again, bad ones by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests import artifacts
from tests.jobs.models import BAD, POISON, judging

from forwardpass.engine.engine import Engine, load
from forwardpass.errors import ForwardpassError
from forwardpass.jobs.engine import JobEngine, LocalEngine
from forwardpass.jobs.mapping import ColumnMap
from forwardpass.jobs.predictor import Predictions, Predictor, Rejection
from forwardpass.types import Columns


class Watched(JobEngine):
    """An engine that writes down the batches it ran."""

    def __init__(self, engine: Engine) -> None:
        self._engine = LocalEngine(engine)
        self.signature = engine.signature
        self.batches: list[Columns] = []

    def run(self, columns: Columns, rows: int) -> tuple[Columns, dict[int, ForwardpassError], float]:
        self.batches.append(columns)
        return self._engine.run(columns, rows)

    def close(self) -> None:
        self._engine.close()


def predicted(
    engine: Watched, values: Any, batch: int = 4, rows: Sequence[int] | None = None
) -> tuple[Predictions, int]:
    column = values if isinstance(values, pa.Array) else pa.array(values)
    columns = ColumnMap(pa.schema([pa.field("x", column.type)]), engine.signature, {}, (), typed=True)
    alive: list[None] = []
    predictor = Predictor(engine, columns, batch)
    answers = predictor.predict({"x": column}, range(len(column)) if rows is None else rows, lambda: alive.append(None))
    return answers, len(alive)


@pytest.fixture
def judge(tmp_path: Path) -> Watched:
    return Watched(load(judging(tmp_path / "judge"), threads=1))


def test_batches_hold_so_many_rows_and_each_is_told(judge: Watched) -> None:
    answers, told = predicted(judge, [float(n) for n in range(10)])
    assert [len(batch["x"]) for batch in judge.batches] == [4, 4, 2]
    assert answers.columns["y"].to_pylist() == [float(n) for n in range(10)]
    assert (answers.rows, told) == (list(range(10)), 3)
    assert answers.compute > 0


def test_bad_rows_are_left_out_wherever_they_are_found(judge: Watched) -> None:
    answers, _ = predicted(judge, pa.array([1.0, BAD, None, 2.0, POISON, 3.0]))
    assert answers.rows == [0, 3, 5]
    assert answers.columns["y"].to_pylist() == [1.0, 2.0, 3.0]
    assert answers.rejected[1] == Rejection("judge", "thirteen")
    assert answers.rejected[2].step == "inputs"
    assert answers.rejected[4].step == "judge"


def test_only_the_named_rows_run(judge: Watched) -> None:
    answers, _ = predicted(judge, [5.0, 6.0, 7.0], rows=[0, 2])
    assert (answers.rows, answers.columns["y"].to_pylist()) == ([0, 2], [5.0, 7.0])


def test_no_row_is_good(judge: Watched) -> None:
    answers, _ = predicted(judge, [BAD, BAD])
    assert (answers.rows, answers.columns["y"].to_pylist(), len(answers.rejected)) == ([], [], 2)


def test_ragged_rows_run_by_length_and_come_back_in_order(tmp_path: Path) -> None:
    artifacts.identity(tmp_path / "id" / "model.onnx", "BYTES", ("N",))
    (tmp_path / "id" / "model.yaml").write_text("inputs: {x: {type: text}}\n")
    engine = Watched(load(tmp_path / "id", threads=1))
    texts = ["aaaa", "b", "cc", "ddd", "e" * 9, "f"]
    answers, _ = predicted(engine, texts, batch=2)
    assert answers.columns["y"].to_pylist() == texts
    assert [sorted(map(len, batch["x"].tolist())) for batch in engine.batches] == [[1, 1], [2, 3], [4, 9]]


def test_a_model_without_rows_runs_each_by_itself(tmp_path: Path) -> None:
    engine = Watched(load(artifacts.no_batch_axis(tmp_path / "whole" / "model.onnx"), threads=1))
    width = engine.signature.inputs[0].tensor.shape
    shape = [axis or 3 for axis in width]
    rows = [np.full(shape, float(n)).tolist() for n in range(3)]
    answers, told = predicted(engine, rows)
    assert (answers.rows, told, len(engine.batches)) == ([0, 1, 2], 3, 3)
    local = load(tmp_path / "whole", threads=1)
    expected = [local.predict([row])[0] for row in rows]
    assert answers.columns[engine.signature.outputs[0].name].to_pylist() == expected
