"""What a worker measures of its own accord: sizes, lengths, limits, and when it lets it be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import artifacts
from tests.engine.workers import close, fleet, run, until

from forwardpass.config import Limits
from forwardpass.engine import calibration
from forwardpass.engine.calibration import Measured, calibrate
from forwardpass.engine.engine import Engine
from forwardpass.engine.nursery import Nursery
from forwardpass.registry import find_model

EXAMPLES = Path(__file__).parents[2] / "examples" / "models"


OWN_STEP = """
from forwardpass.pipeline import step

@step(reads=["x"], writes=["x"])
def same(columns):
    return columns
"""


def measured(path: Path) -> list[Measured]:
    files = find_model(path)
    engine = Engine.open(files, 1)
    try:
        return list(calibrate(engine, files.config))
    finally:
        engine.close()


def model(folder: Path, yaml: str = "", sample: object = None) -> Path:
    folder.mkdir()
    artifacts.affine(folder / "model.onnx")
    (folder / "model.yaml").write_text(yaml)
    if sample is not None:
        (folder / "sample.json").write_text(json.dumps({"instances": sample}))
    return folder


def test_it_runs_one_row_then_two_then_four_up_to_the_largest_batch(tmp_path: Path) -> None:
    batches = measured(model(tmp_path / "m", "limits: {max_batch_size: 20}"))
    assert [batch.rows for batch in batches] == [1, 2, 4, 8, 16]
    assert all(batch.seconds > 0 and len(batch.columns["x"]) == batch.rows for batch in batches)


def test_it_runs_the_sample_where_there_is_one(tmp_path: Path) -> None:
    row = [float(number) for number in range(64)]
    for batch in measured(model(tmp_path / "m", sample=[row, row])):
        assert (batch.columns["x"] == row).all()


def test_texts_are_tried_at_several_lengths() -> None:
    batches = measured(EXAMPLES / "task-priority")
    texts = {batch.columns["text"][0] for batch in batches}
    assert len(texts) == len(calibration.LENGTHS)
    assert max(map(len, texts)) > 3 * min(map(len, texts))


@pytest.mark.parametrize("yaml", ["warm_up: false", "batching: false"])
def test_it_lets_a_model_be_that_says_so_or_that_has_no_rows(tmp_path: Path, yaml: str) -> None:
    assert measured(model(tmp_path / "m", yaml)) == []


def test_a_users_own_steps_run_on_the_users_own_rows_alone(tmp_path: Path) -> None:
    folder = model(tmp_path / "m", "preprocess: [{step: same}]")
    (folder / "steps.py").write_text(OWN_STEP)
    assert measured(folder) == []
    (folder / "sample.json").write_text(json.dumps({"instances": [[1.0] * 64]}))
    assert measured(folder) != []


@pytest.mark.parametrize("content", ["{", '{"instances": [[1, 2]]}', '{"rows": []}', '{"instances": []}'])
def test_a_sample_that_does_not_fit_ends_it_quietly(tmp_path: Path, content: str) -> None:
    folder = model(tmp_path / "m")
    (folder / "sample.json").write_text(content)
    assert measured(folder) == []


def test_long_batches_end_it(tmp_path: Path) -> None:
    batches = measured(model(tmp_path / "m", "limits: {max_batch_time: 0.000001}"))
    assert [batch.rows for batch in batches] == [1, 2]


def test_it_keeps_to_its_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "BUDGET", 0.0)
    assert [batch.rows for batch in measured(model(tmp_path / "m"))] == [1]


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    made = Nursery("critical")
    yield made
    close(made)


def test_the_front_learns_from_the_first_worker_while_nobody_asks(nursery: Nursery, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    artifacts.identity(folder / "model.onnx")

    async def main() -> None:
        async with fleet(nursery, folder, count=2, limits=Limits(max_batch_size=8)) as made:
            await made.until_ready()
            await until(lambda: made.scheduler.cost.batches == 4)
            assert [cost.rows for cost in made.scheduler.cost.costs()] == [1, 2, 4, 8]
            assert made.scheduler.cost.known
            assert await made.ask(3.0) == 3.0
            assert made.observed != []

    (folder / "model.yaml").write_text("limits: {max_batch_size: 8}")
    run(nursery, main)
