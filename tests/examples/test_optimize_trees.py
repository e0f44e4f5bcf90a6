"""The real cases of trees and of rejection: what they measure, choose and require, on small models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("skl2onnx")
pytest.importorskip("xgboost")
pytest.importorskip("lightgbm")

from examples.optimize import trees


def case(native: float, onnx: float) -> trees.Case:
    times = {("native", 1): [native] * 3, ("onnx", 1): [onnx] * 3}
    return trees.Case("model", {}, {}, {}, times)


@pytest.mark.parametrize(
    ("native", "onnx", "chosen"), [(2.0, 1.0, "ONNX"), (1.0, 2.0, "native"), (1.0, 1.01, "either")]
)
def test_the_clearly_faster_format_is_chosen(native: float, onnx: float, chosen: str) -> None:
    assert trees.choice(case(native, onnx), 1) == chosen


def test_a_model_is_imported_twice_measured_and_reported(tmp_path: Path) -> None:
    from sklearn.ensemble import RandomForestClassifier

    features, labels, later, later_labels = trees.payments()
    later, later_labels = later[:2000], later_labels[:2000]
    model = RandomForestClassifier(5, max_depth=5, random_state=0).fit(features[:2000], labels[:2000])
    made = trees.import_both("forest", model, tmp_path / "forest", later, later_labels)
    assert made.auc["native"].value == pytest.approx(made.auc["onnx"].value, abs=1e-3)
    trees.measure([made], tmp_path, later, rounds=2, seconds=0.01)
    assert all(len(times) == 2 for times in made.times.values())
    text = trees.report([made], len(later), int(later_labels.sum()))
    assert "| forest | `.skops` |" in text
    assert "| forest | `.onnx` |" in text


def test_held_out_payments_are_later_ones() -> None:
    features, labels, later, later_labels = trees.payments()
    assert (len(features), len(later)) == (30_000, 10_000)
    assert (len(labels), len(later_labels)) == (30_000, 10_000)


def test_rejected_requires_that_nothing_passed_and_something_was_measured() -> None:
    pytest.importorskip("torch")
    from examples.optimize.rejected import require_all_rejected

    lost: dict[str, Any] = {"name": "int8", "passed": False, "quality": {}}
    measured = {**lost, "quality": {"score": 1.0}}
    require_all_rejected({"winner": "", "entries": [lost, measured]})
    with pytest.raises(AssertionError, match="no candidate"):
        require_all_rejected({"winner": "", "entries": [lost]})
    with pytest.raises(AssertionError, match="int8"):
        require_all_rejected({"winner": "int8", "entries": [{**measured, "passed": True}]})


def test_rejected_holds_out_rows_that_it_did_not_train_on(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from examples.optimize import rejected

    rejected.write_held_out(tmp_path / "rows.csv")
    written = np.loadtxt(tmp_path / "rows.csv", delimiter=",", skiprows=1, dtype=np.float32)
    assert written.shape == (rejected.HELD_OUT_ROWS, rejected.INPUTS + 1)
    trained, _ = rejected.rows(rejected.TRAINING_ROWS, seed=1)
    assert not {row.tobytes() for row in written[:, :-1]} & {row.tobytes() for row in trained}
