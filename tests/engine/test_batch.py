"""One bad row fails only its own request: ``run_batch`` on real engines with a user's steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import artifacts

from forwardpass import load
from forwardpass.engine.batch import run_batch
from forwardpass.engine.engine import Engine
from forwardpass.engine.messages import error_from
from forwardpass.errors import BackendFailed, ForwardpassError, InvalidInput, InvalidRows, NotFound, TimedOut
from forwardpass.types import Columns

STEPS = """
    import sys
    import numpy as np
    from forwardpass.errors import BackendFailed, InvalidInput, InvalidRows
    from forwardpass.pipeline import step

    class OwnError(InvalidInput):
        pass

    @step(reads=["x"], writes=["x"])
    def check(columns):
        x = columns["x"]
        if (x == 1000).any():
            raise ValueError("a thousand")
        if (x == 2000).any():
            raise InvalidInput("two thousand")
        if (x == 3000).any():
            raise OwnError("three thousand")
        if (x == 4000).any():
            raise InvalidRows({len(x) + 5: "is not there"})
        wrong = {row: f"{int(value)} is negative" for row, value in enumerate(x[:, 0]) if value < 0}
        if wrong:
            raise InvalidRows(wrong)
        return {"x": x}

    @step(reads=["y"], writes={"note": "BYTES"})
    def note(columns):
        note = np.empty(len(columns["y"]), object)
        note[:] = [None if value == 5000 else "fine" for value in columns["y"][:, 0]]
        return {"note": note}
"""


def model(folder: Path) -> Path:
    """``y = x`` of two numbers, with a step that objects to some, and a text beside it."""
    artifacts.identity(folder / "model.onnx")
    (folder / "steps.py").write_text(dedent(STEPS), encoding="utf-8")
    (folder / "model.yaml").write_text("preprocess: [{step: check}]\npostprocess: [{step: note}]\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return load(model(tmp_path_factory.mktemp("checked")), threads=1)


def run(
    engine: Engine, values: Sequence[float], rows: list[int] | None = None
) -> tuple[list[float], dict[int, ForwardpassError]]:
    x = np.array([[value, value] for value in values], np.float32).reshape(-1, 2)
    outputs, failures, times = run_batch(engine, {"x": x}, rows or [1] * len(values))
    assert times.total >= 0.0
    return outputs["y"][:, 0].tolist() if outputs else [], failures


def test_all_are_answered(engine: Engine) -> None:
    assert run(engine, [1, 2, 3]) == ([1, 2, 3], {})
    assert run(engine, [1, 2, 3], [1, 0, 2]) == ([1, 2, 3], {})


def test_bad_rows_fail_their_own_requests(engine: Engine) -> None:
    values, failures = run(engine, [1, -2, 3, -4])
    assert values == [1, 3]
    assert {index: error.message for index, error in failures.items()} == {1: "-2 is negative", 3: "-4 is negative"}
    assert all(type(error) is InvalidInput for error in failures.values())


def test_a_bad_row_is_counted_from_its_own_request(engine: Engine) -> None:
    values, failures = run(engine, [1, 2, 3, -4, 5, -6, 7], [2, 3, 0, 1, 1])
    assert values == [1, 2, 7]
    assert isinstance(failures[1], InvalidRows)
    assert failures[1].rows == {1: "-4 is negative"}
    assert failures[3].message == "-6 is negative"
    assert failures.keys() == {1, 3}


def test_all_bad(engine: Engine) -> None:
    values, failures = run(engine, [-1, -2])
    assert values == []
    assert failures.keys() == {0, 1}


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (1000, BackendFailed, "failed: ValueError: a thousand"),
        (2000, InvalidInput, "two thousand"),
        (3000, InvalidInput, "three thousand"),
        (4000, InvalidInput, "is not there"),
        (5000, BackendFailed, "column 'note' holds NoneType"),
    ],
)
@pytest.mark.parametrize("place", [0, 2, 4])
def test_what_fails_the_whole_batch_is_found(
    engine: Engine, value: float, kind: type[ForwardpassError], text: str, place: int
) -> None:
    values = [1.0, 2.0, -3.0, 4.0, 5.0]
    values[place] = value
    answers, failures = run(engine, values)
    assert answers == [v for v in values if 0 < v < 1000]
    assert failures.keys() == {i for i, v in enumerate(values) if not 0 < v < 1000}
    assert isinstance(failures[place], kind)
    assert text in failures[place].message


@settings(max_examples=60, deadline=None)
@given(st.data(), st.lists(st.integers(0, 4), min_size=1, max_size=10))
def test_every_request_gets_its_own_rows_or_its_own_error(engine: Engine, data: st.DataObject, rows: list[int]) -> None:
    kinds = [1.0, 2.0, 3.0, -1.0, 1000.0, 2000.0, 5000.0]
    requests = [data.draw(st.lists(st.sampled_from(kinds), min_size=n, max_size=n)) for n in rows]
    answers, failures = run(engine, [value for request in requests for value in request], rows)
    good = [all(0 < value < 1000 for value in request) for request in requests]
    assert failures.keys() == {index for index, fine in enumerate(good) if not fine}
    assert answers == [value for request, fine in zip(requests, good, strict=True) if fine for value in request]


def forced(folder: Path) -> Engine:
    (folder / "model.yaml").write_text("batching: true\n", encoding="utf-8")
    return load(folder, threads=1)


def test_outputs_without_rows_are_given_to_no_one_of_several(folder: Path) -> None:
    artifacts.scalar_output(folder / "model.onnx")
    try:
        engine = forced(folder)
    except ForwardpassError:
        pytest.skip("refused at load, which is better still")
    columns: Columns = {"x": np.ones((3, 2), np.float32)}
    outputs, failures, _ = run_batch(engine, columns, [1, 2])
    assert outputs == {}
    assert failures.keys() == {0, 1}
    assert all("batching: false" in error.message for error in failures.values())


def test_outputs_without_rows_are_not_given_to_the_one_that_is_left(folder: Path) -> None:
    artifacts.scalar_output(folder / "model.onnx")
    (folder / "steps.py").write_text(dedent(STEPS), encoding="utf-8")
    (folder / "model.yaml").write_text("batching: true\npreprocess: [{step: check}]\n", encoding="utf-8")
    try:
        engine = load(folder, threads=1)
    except ForwardpassError:
        pytest.skip("refused at load, which is better still")
    columns: Columns = {"x": np.array([[1, 1], [-1, -1]], np.float32)}
    outputs, failures, _ = run_batch(engine, columns, [1, 1])
    assert outputs == {}
    assert failures.keys() == {0, 1}


def test_a_request_alone_gets_the_outputs_as_they_are(folder: Path) -> None:
    artifacts.scalar_output(folder / "model.onnx")
    outputs, failures, _ = run_batch(load(folder, threads=1), {"x": np.ones((3, 2), np.float32)}, [1])
    assert outputs["y"].shape == ()
    assert failures == {}


def test_rows_named_by_a_step_of_a_model_without_rows(folder: Path) -> None:
    artifacts.no_batch_axis(folder / "model.onnx")
    steps = """
        from forwardpass.errors import InvalidRows
        from forwardpass.pipeline import step

        @step(reads=["x"], writes=["x"])
        def refuse(columns):
            raise InvalidRows({3: "is wrong"})
    """
    (folder / "steps.py").write_text(dedent(steps), encoding="utf-8")
    (folder / "model.yaml").write_text("preprocess: [{step: refuse}]\n", encoding="utf-8")
    outputs, failures, _ = run_batch(load(folder, threads=1), {"x": np.ones(4, np.float32)}, [1])
    assert outputs == {}
    assert "is wrong" in failures[0].message


def test_an_artifact_that_fails_for_one_row_answers_the_others(folder: Path) -> None:
    artifacts.lookup(folder / "model.onnx")
    ids = np.array([1, 99, 3], np.int64)
    outputs, failures, _ = run_batch(load(folder, threads=1), {"id": ids}, [1, 1, 1])
    assert outputs["y"].tolist() == [10.0, 30.0]
    assert failures.keys() == {1}


@pytest.mark.parametrize("kind", [InvalidInput, BackendFailed, NotFound, TimedOut])
def test_errors_arrive_as_their_kind(kind: type[ForwardpassError]) -> None:
    error = error_from(kind.__name__, "text")
    assert type(error) is kind
    assert error.message == "text"


def test_rows_and_unknown_kinds_arrive_as_what_they_mean() -> None:
    assert type(error_from("InvalidRows", "row 1: wrong")) is InvalidInput
    assert type(error_from("SomethingElse", "text")) is BackendFailed


def test_a_model_of_one_bare_number(folder: Path) -> None:
    engine = load(artifacts.identity(folder / "model.onnx", shape=[]), threads=1)
    outputs, failures, _ = run_batch(engine, {"x": np.array(3.5, np.float32)}, [1])
    assert failures == {}
    assert outputs["y"].item() == 3.5
