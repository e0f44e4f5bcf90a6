from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.optimize.recipes import parents

from forwardpass import import_model, load
from forwardpass.optimize.recipe import Parent
from forwardpass.optimize.recipes import create_recipes
from forwardpass.optimize.recipes.native import ToOnnx
from forwardpass.types import Array

MODELS = ["forest", "histogram", "texts as classes", "regressor", "xgboost", "lightgbm", "lightgbm regressor"]


def table() -> tuple[Array, Array]:
    features = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
    return features, (features[:, 0] + features[:, 1] > 0).astype(np.int64)


def fitted(kind: str) -> Any:
    features, labels = table()
    if kind.startswith("lightgbm"):
        library = pytest.importorskip("lightgbm")
        make = library.LGBMRegressor if "regressor" in kind else library.LGBMClassifier
        return make(n_estimators=5, n_jobs=1, verbose=-1).fit(features, labels)
    if kind == "xgboost":
        return pytest.importorskip("xgboost").XGBClassifier(n_estimators=5, n_jobs=1).fit(features, labels)
    ensemble = pytest.importorskip("sklearn.ensemble")
    makers = {
        "histogram": ensemble.HistGradientBoostingClassifier(max_iter=5),
        "regressor": ensemble.RandomForestRegressor(5, random_state=0),
    }
    classes = np.array(["no", "yes"])[labels] if kind == "texts as classes" else labels
    return makers.get(kind, ensemble.RandomForestClassifier(5, random_state=0)).fit(features, classes)


def native(folder: Path, kind: str) -> Parent:
    pytest.importorskip("skl2onnx")
    pytest.importorskip("onnxmltools")
    import_model(fitted(kind), folder / "parent", native=True)
    return parents.parent(folder / "parent", {"features": table()[0][:8]})


@pytest.mark.parametrize("kind", MODELS)
def test_trees_become_onnx_with_the_same_types_and_answers(tmp_path: Path, kind: str) -> None:
    parent = native(tmp_path, kind)
    folder = tmp_path / "candidate"
    folder.mkdir()
    assert ToOnnx().unsuitable(parent) == ""
    ToOnnx().make(parent, folder)
    parents.assert_whole(folder, parent)
    columns = {"features": table()[0].astype(load(folder, 1).signature.inputs[0].tensor.dtype.numpy)}
    wanted, given = parents.answer(parent.files.folder, columns), parents.answer(folder, columns)
    assert wanted.keys() == given.keys()
    for name, column in wanted.items():
        assert column.dtype == given[name].dtype
        if column.dtype.kind == "f":
            np.testing.assert_allclose(given[name], column, atol=1e-5)
        else:
            assert given[name].tolist() == column.tolist()


def test_an_onnx_model_is_not_converted() -> None:
    parent, _ = parents.digits()
    assert ToOnnx().unsuitable(parent) == ".onnx files are not converted"


def test_it_is_among_the_recipes() -> None:
    assert any(isinstance(recipe, ToOnnx) for recipe in create_recipes(parents.digits()[0]))
