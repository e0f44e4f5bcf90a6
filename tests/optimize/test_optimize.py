"""Whole searches: what wins, what is recorded of those that fail, resuming, and what is refused at the start."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import helper
from tests import artifacts
from tests.optimize import candidates
from tests.optimize.candidates import (
    Copy,
    Counted,
    Crashing,
    Dying,
    Engineless,
    Full,
    Hanging,
    Raising,
    Spoiled,
    Unsuited,
)

import forwardpass
from forwardpass.errors import BackendFailed, InvalidInput, InvalidModel
from forwardpass.optimize.optimize import Optimizer, Progress
from forwardpass.optimize.prepare import Options
from forwardpass.optimize.recipe import Parent, Recipe
from forwardpass.optimize.search import Search

ROWS = 2000


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return candidates.parent(tmp_path / "slow")


@pytest.fixture
def options(tmp_path: Path) -> Options:
    data = candidates.held_out(tmp_path / "rows.parquet", ROWS)
    return Options((str(data),), seconds=0.05, rounds=1, threads=1, patience=20.0)


def search(model: Path, options: Options, *recipes: Recipe, **more: Any) -> Search:
    return Optimizer(model, options, recipes, **more).run()


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def written(folder: Path) -> list[str]:
    """Without what Python keeps of a ``steps.py`` that was run."""
    return [name for name in files(folder) if name != "__pycache__"]


def test_the_winner_becomes_a_model_of_its_own_with_its_lineage(model: Path, options: Options) -> None:
    told: list[Progress] = []
    found = search(model, options, Copy("quick"), on_progress=told.append)
    out = model.with_name("slow-optimized")
    assert (found.winner, found.out, found.metric, found.output) == ("quick", str(out), "accuracy", "y")
    assert files(out) == ["lineage.json", "model.onnx", "model.yaml", "steps.py"]
    rows = [[1.0, 0, 0, 0], [0, 0, 2.0, 0]]
    assert forwardpass.load(out).predict(rows) == forwardpass.load(model).predict(rows)
    lineage = json.loads((out / "lineage.json").read_text())
    assert set(lineage["parent"]["digests"]) == {"model.onnx", "model.yaml", "steps.py"}
    assert lineage["recipe"] == {"name": "quick", "title": "the quick one"}
    assert lineage["gate"]["fingerprint"] == found.fingerprint
    assert lineage["measurements"]["candidate"]["quality"]["agreement"] == 1.0
    assert "numpy" in lineage["libraries"]
    assert written(model) == ["model.onnx", "model.yaml", "steps.py"], "the parent stays"
    assert files(model.with_name("slow-optimized.optimize")) == [
        "ledger.jsonl", "report.html", "report.json", "report.md"
    ]  # fmt: skip
    assert [(one.done, one.total, one.entry is None) for one in told] == [(0, 1, True), (1, 1, False)]
    assert found.calibration == 200
    assert found.rows == ROWS - 200


@pytest.mark.slow
def test_what_fails_is_recorded_and_the_rest_go_on(model: Path, options: Options) -> None:
    recipes = [Raising("raising"), Dying("dying"), Crashing("crashing"), Engineless("engineless"), Spoiled("spoiled"),
               Unsuited("unsuited"), Copy("slower", 0.06), Copy("quick")]  # fmt: skip
    found = search(model, options, *recipes)
    reasons = {entry.name: entry.reason for entry in found.entries}
    assert reasons["raising"] == "failed: the operator Frobnicate is not supported"
    assert reasons["dying"] == "failed: its process was killed by SIGABRT"
    assert reasons["crashing"].startswith("failed: its process was killed by SIGABRT")
    assert "onnxruntime" in reasons["engineless"]
    assert reasons["spoiled"].startswith("accuracy drops by ")
    assert reasons["unsuited"] == "not tried: it has no convolutions"
    assert reasons["slower"].startswith("worse than the parent in throughput: 0.")
    assert found.winner == "quick"
    worst = next(entry for entry in found.entries if entry.name == "spoiled").quality
    assert worst is not None
    assert len(worst.worst) == 5
    assert all(row.parent == row.label != row.candidate for row in worst.worst)


@pytest.mark.slow
def test_where_none_passes_nothing_is_written_but_the_report(model: Path, options: Options) -> None:
    found = search(model, options, Spoiled("spoiled"), Copy("slower", 0.06))
    assert (found.winner, found.out) == ("", "")
    assert not model.with_name("slow-optimized").exists()
    assert files(model.with_name("slow-optimized.optimize")) == [
        "ledger.jsonl", "report.html", "report.json", "report.md"
    ]  # fmt: skip
    assert "The parent is the best" in (model.with_name("slow-optimized.optimize") / "report.md").read_text()
    again = search(model, options, Copy("slower", 0.06))
    assert [entry.name for entry in again.entries] == ["slower"], "a search that has ended is begun anew"


@pytest.mark.slow
def test_what_hangs_is_given_up(model: Path, options: Options) -> None:
    found = search(model, replace(options, patience=1.0), Hanging("hanging"))
    assert found.entries[0].reason.startswith("failed: its process did not end within ")


@pytest.mark.slow
def test_the_best_are_combined_while_there_is_time(model: Path, options: Options) -> None:
    def combine(first: Recipe, second: Recipe) -> Recipe | None:
        return Copy(f"{first.name}-{second.name}")

    found = search(model, options, Copy("a"), Copy("b", 0.001), Spoiled("c"), combine=combine)
    reasons = {entry.name: entry.reason for entry in found.entries}
    assert list(reasons) in (["a", "b", "c", "a-b"], ["a", "b", "c", "b-a"]), reasons


@pytest.mark.slow
def test_no_candidate_is_begun_when_the_budget_is_spent(model: Path, options: Options) -> None:
    found = search(model, replace(options, budget=0.01), Copy("quick"), Unsuited("unsuited"))
    assert [entry.reason for entry in found.entries] == [
        "not tried: the budget of 0 s is spent",
        "not tried: it has no convolutions",
    ]


@pytest.mark.slow
def test_an_interrupted_search_goes_on_where_it_was(model: Path, options: Options, tmp_path: Path) -> None:
    log = tmp_path / "made"
    recipes: Sequence[Recipe] = [Counted("first", log=str(log)), Full("full"), Counted("last", log=str(log))]
    with pytest.raises(BackendFailed, match="No space left on device; what is done is kept, go on with --resume"):
        search(model, options, *recipes)
    with pytest.raises(InvalidInput, match="holds a search that has not ended; go on with it"):
        search(model, options, *recipes)
    found = search(model, replace(options, resume=True), recipes[0], recipes[2])
    assert log.read_text().split() == ["first", "last"], "what was done is not done again"
    assert [entry.name for entry in found.entries] == ["first", "last"]


@pytest.mark.slow
def test_a_change_before_resuming_is_named(model: Path, options: Options) -> None:
    with pytest.raises(BackendFailed):
        search(model, options, Full("full"))
    again = replace(options, resume=True)
    with pytest.raises(InvalidInput, match="--max-drop has changed"):
        search(model, replace(again, max_drop=0.01), Copy("quick"))
    candidates.held_out(Path(options.data[0]), ROWS, wrong=1)
    with pytest.raises(InvalidInput, match="the held-out data has changed"):
        search(model, again, Copy("quick"))
    candidates.held_out(Path(options.data[0]), ROWS)
    candidates.write_steps(model, 0.01)
    with pytest.raises(InvalidInput, match=r"model file steps\.py has changed"):
        search(model, again, Copy("quick"))


def test_too_few_rows_says_how_many_are_needed(model: Path, options: Options, tmp_path: Path) -> None:
    data = candidates.held_out(tmp_path / "few.parquet", 300)
    with pytest.raises(InvalidInput, match=r"270 held-out rows are too few .* accuracy: about 1537 are needed"):
        search(model, replace(options, data=(str(data),)), Copy("quick"))
    assert not model.with_name("slow-optimized.optimize").exists(), "nothing is left behind"


def test_a_metric_that_does_not_fit_is_refused(model: Path, options: Options) -> None:
    with pytest.raises(InvalidInput, match="rmse of output 'y': rmse compares numbers"):
        search(model, replace(options, metric="rmse"), Copy("quick"))


def test_an_operator_that_no_engine_has_is_named(options: Options, tmp_path: Path) -> None:
    node = helper.make_node("Frobnicate", ["x"], ["y"])
    shape: artifacts.Shape = ["N", candidates.FEATURES]
    path = artifacts.save(
        tmp_path / "odd" / "model.onnx", [node], [artifacts.tensor("x", shape)], [artifacts.tensor("y", shape)]
    )
    with pytest.raises(InvalidModel, match="Frobnicate"):
        search(path, options, Copy("quick"))


@pytest.mark.parametrize("drop", [0.0, -0.1, 1.0, float("nan")])
def test_an_allowance_that_makes_no_sense(model: Path, options: Options, drop: float) -> None:
    with pytest.raises(InvalidInput, match="must be above 0 % and below 100 %"):
        search(model, replace(options, max_drop=drop))


def test_a_source_that_is_not_there(model: Path, options: Options, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="--source: there is no file"):
        search(model, replace(options, source=tmp_path / "none.py"))


@pytest.mark.slow
def test_rows_that_the_parent_refuses_count_for_nobody(model: Path, options: Options, tmp_path: Path) -> None:
    steps = """
        import numpy as np
        from forwardpass.errors import InvalidRows
        from forwardpass.pipeline import step

        @step(reads=["x"], writes=["x"])
        def wait(columns):
            bad = np.flatnonzero(columns["x"][:, 0] > 2)
            if len(bad):
                raise InvalidRows({int(row): "too large" for row in bad})
            return {"x": columns["x"]}
    """
    (model / "steps.py").write_text(dedent(steps))
    notes: list[str] = []
    found = search(model, replace(options, calibration_rows=0), Copy("quick"), on_note=notes.append)
    x = np.array(pq.read_table(options.data[0])["x"].to_pylist())
    assert found.rows == int((x[:, 0] <= 2).sum()) < ROWS
    assert "too large" in notes[0]
    assert found.entries[0].quality is not None


@pytest.mark.slow
def test_killed_it_leaves_a_ledger_that_can_be_resumed(model: Path, options: Options, tmp_path: Path) -> None:
    """SIGKILL while the second candidate is made."""
    script = f"""
from pathlib import Path
from forwardpass.optimize.optimize import Optimizer
from forwardpass.optimize.prepare import Options
from tests.optimize.candidates import Copy, Endless
if __name__ == "__main__":
    options = Options({options.data!r}, seconds=0.05, rounds=1, threads=1)
    told = lambda progress: print(progress.title, flush=True)
    Optimizer(Path({str(model)!r}), options, [Copy("quick"), Endless("endless")], on_progress=told).run()
"""
    (tmp_path / "run.py").write_text(script)
    environ = {**os.environ, "PYTHONPATH": os.getcwd()}
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "run.py")],
        stdout=subprocess.PIPE,
        text=True,
        env=environ,
        start_new_session=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "endless" in line:
            break
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    found = search(model, replace(options, resume=True), Copy("quick"), Unsuited("endless"))
    assert [entry.name for entry in found.entries] == ["quick", "endless"]
    assert found.winner == "quick"


@pytest.mark.slow
def test_calibration_rows_are_given_as_the_artifact_takes_them(model: Path, options: Options) -> None:
    seen: list[Parent] = []

    class Looking(Unsuited):
        def unsuitable(self, parent: Parent) -> str:
            seen.append(parent)
            return "only looked"

    search(model, replace(options, calibration_rows=40), Looking("looking"))
    batches = seen[0].calibration
    assert [batch["x"].shape for batch in batches] == [(16, 4), (16, 4), (8, 4)]
    assert {batch["x"].dtype.name for batch in batches} == {"float32"}
    held = json.loads((model.with_name("slow-optimized.optimize") / "report.json").read_text())
    assert held["rows"] == ROWS - 40


@pytest.mark.slow
def test_a_folder_of_versions_gets_its_next_number(model: Path, options: Options, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    shutil.move(model, tmp_path / "m" / "3")
    table = pq.read_table(options.data[0])
    pq.write_table(table.set_column(1, "truth", pa.array(table["label"])), options.data[0])
    found = search(tmp_path / "m", replace(options, label="truth"), Copy("quick"))
    assert found.out == str(tmp_path / "m" / "4")
    assert forwardpass.load(tmp_path / "m").version == "4"
