"""Importing trained models: real estimators of each library, converted, compared, written and served."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import LabelPropagation
from tests.optimize.convert import models

from forwardpass import load
from forwardpass.errors import InvalidInput, InvalidModel
from forwardpass.optimize.convert import import_model
from forwardpass.optimize.convert.importing import trained_model
from forwardpass.types import DType, TensorSpec

REGRESSORS = [name for name in models.FITS if name.endswith("of numbers")]
CLASSIFIERS = [name for name in models.FITS if name not in REGRESSORS]


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifier_answers_as_it_did(name: str, folder: Path) -> None:
    model = models.fitted(name)
    report = import_model(model, folder / "imported")
    engine = load(folder / "imported")
    assert engine.signature.batched
    rows = models.digits()[0] if model.n_features_in_ == 64 else models.table()[0]
    answer = engine.run({"features": rows[:50].astype(np.float32)})[0]
    assert answer["label"].tolist() == model.predict(rows[:50].astype(np.float32)).tolist()
    if name != "support vectors":
        assert np.abs(answer["probabilities"] - model.predict_proba(rows[:50])).max() < 1e-3
    assert (report.comparison.rows, report.comparison.equal_labels) == (2000, 1.0)


@pytest.mark.parametrize("name", REGRESSORS)
def test_a_regressor_gives_one_number_per_row(name: str, folder: Path) -> None:
    model, rows = models.fitted(name), models.table()[0][:50].astype(np.float32)
    report = import_model(model, folder / "imported")
    engine = load(folder / "imported")
    assert engine.signature.outputs == (TensorSpec("prediction", DType.FP32, (None,)),)
    assert np.allclose(engine.run({"features": rows})[0]["prediction"], model.predict(rows), rtol=1e-5)
    assert report.comparison.equal_labels is None


@pytest.mark.parametrize("name", ["histograms", "xgboost", "lightgbm"])
def test_the_native_format_is_kept_where_asked(name: str, folder: Path) -> None:
    report = import_model(models.fitted(name), folder / "imported", native=True)
    assert report.artifact in ("model.skops", "model.xgboost.json", "model.lightgbm.txt")
    assert {spec.name for spec in load(folder / "imported").signature.outputs} == {"label", "probabilities"}


def test_the_folder_describes_itself_and_its_sample_runs(folder: Path) -> None:
    import_model(models.fitted("logistic"), folder / "imported")
    assert sorted(item.name for item in (folder / "imported").iterdir()) == ["model.onnx", "model.yaml", "sample.json"]
    written = yaml.safe_load((folder / "imported" / "model.yaml").read_text())
    assert written["description"] == "StandardScaler + LogisticRegression, imported"
    assert set(written["tags"]) == {"scikit-learn", "skl2onnx"}
    sample = json.loads((folder / "imported" / "sample.json").read_text())["instances"]
    (answer,) = load(folder / "imported").predict(sample)
    assert answer["label"] in ("benign", "malignant")


@pytest.mark.parametrize("name", ["forest", "histograms", "xgboost", "lightgbm"])
def test_rows_are_drawn_at_the_thresholds_of_trees(name: str) -> None:
    trained = trained_model(models.fitted(name))
    rows = trained.draw(2000)["features"]
    splits: Any = trained._ranges.splits  # type: ignore[attr-defined]
    at = sum(bool((rows[:, feature] == np.float32(value)).any()) for feature, value in splits)
    assert at >= min(len(splits), 2000 // 12)
    assert np.array_equal(rows, trained.draw(2000)["features"]), "the same rows each time"


def test_what_has_no_converter_is_named(folder: Path) -> None:
    model = make_pipeline(StandardScaler(), LabelPropagation()).fit(*models.table())
    with pytest.raises(InvalidModel, match=r"no converter for LabelPropagation within .*--native"):
        import_model(model, folder / "imported")
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (object(), "builtins.object is no model"),
        (LogisticRegression(), "LogisticRegression is not fitted"),
        (KMeans(), "neither a classifier nor a regressor"),
    ],
)
def test_what_cannot_be_imported(model: Any, says: str, folder: Path) -> None:
    with pytest.raises(InvalidModel, match=says):
        import_model(model, folder / "imported")
    assert not list(folder.iterdir())


def test_a_folder_that_is_there_is_left_alone(folder: Path) -> None:
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(InvalidModel, match="is there already"):
        import_model(models.fitted("logistic"), folder)
    assert [item.name for item in folder.iterdir()] == ["mine.txt"]


def test_a_folder_that_cannot_be_written_is_named(folder: Path) -> None:
    (folder / "file").touch()
    with pytest.raises(InvalidModel, match=r"imported: cannot be written: (Not a directory|File exists)"):
        import_model(models.fitted("logistic"), folder / "file" / "imported")


def test_rounding_of_float64_data_is_told_and_tolerated_where_asked(folder: Path) -> None:
    """A row in float64 lies between a threshold and the threshold's float32 neighbour: it goes the other way."""
    model = models.fitted("lightgbm")
    splits: Any = trained_model(model)._ranges.splits  # type: ignore[attr-defined]
    rows = np.repeat(models.table()[0][:1], len(splits), axis=0)
    for row, (feature, threshold) in zip(rows, splits, strict=True):
        row[feature] = np.nextafter(threshold, np.inf)
    with pytest.raises(InvalidModel, match=r"of these only through rounding their inputs to float32.*--tolerance"):
        import_model(model, folder / "imported", data={"features": rows})
    assert not list(folder.iterdir())
    report = import_model(model, folder / "imported", data={"features": rows}, tolerance=len(rows))
    found = report.comparison
    assert found.rounded > 0
    assert found.rounded == found.beyond
    assert all(item.rounding for item in found.worst)


def test_data_that_does_not_fit(folder: Path) -> None:
    with pytest.raises(InvalidInput, match=r"takes \[rows, 30\] numbers"):
        import_model(models.fitted("logistic"), folder / "imported", data={"features": np.ones((2, 3))})
    with pytest.raises(InvalidInput, match="takes 30 features, the data has 1 columns"):
        import_model(models.fitted("logistic"), folder / "imported", data={"a": np.ones(3)})
    with pytest.raises(InvalidInput, match="no rows"):
        import_model(models.fitted("logistic"), folder / "imported", data={"features": np.ones((0, 30))})


def test_labels_that_a_booster_does_not_know_are_refused(folder: Path) -> None:
    import lightgbm

    model = lightgbm.LGBMClassifier(n_estimators=2, verbose=-1, n_jobs=1).fit(models.table()[0], models.names())
    with pytest.raises(InvalidModel, match=r"fitted on the labels \['benign', 'malignant'\]"):
        import_model(model, folder / "imported")
