"""XGBoost: the library's own answers by objective, missing values, and what goes wrong in words."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris

from forwardpass.backends import create_backend
from forwardpass.backends.xgboost import XGBoostBackend
from forwardpass.config import BackendConfig
from forwardpass.errors import InvalidInput, InvalidModel
from forwardpass.types import Array, DType, TensorSpec

PREDICTION = TensorSpec("prediction", DType.FP32, (None,))


@cache
def table(name: str) -> tuple[Array, Array]:
    load = {"iris": load_iris, "cancer": load_breast_cancer, "diabetes": load_diabetes}[name]
    features, target = load(return_X_y=True)
    return features.astype(np.float32), target


def train(data: str, objective: str, **parameters: Any) -> Any:
    features, target = table(data)
    classes = {"num_class": 3} if objective.startswith("multi:") else {}
    settings = {"objective": objective, "nthread": 1, "max_depth": 3, "verbosity": 0, **classes, **parameters}
    return xgboost.train(settings, xgboost.DMatrix(features, target), 4)


def save(booster: Any, path: Path) -> Path:
    booster.save_model(path)
    return path


def own_answer(booster: Any, features: Array) -> Array:
    return np.asarray(booster.predict(xgboost.DMatrix(features)))


@pytest.mark.parametrize("file", ["m.xgboost.json", "m.ubj"])
def test_two_classes(folder: Path, file: str) -> None:
    booster, (features, _) = train("cancer", "binary:logistic"), table("cancer")
    backend = create_backend(save(booster, folder / file), 1)
    assert isinstance(backend, XGBoostBackend)
    assert backend.inputs == (TensorSpec("features", DType.FP32, (None, 30)),)
    assert [(s.name, s.dtype, s.shape) for s in backend.outputs] == [
        ("label", DType.INT64, (None,)),
        ("probabilities", DType.FP32, (None, 2)),
    ]
    assert backend.batched
    answer, own = backend.run({"features": features}), own_answer(booster, features)
    assert answer["probabilities"][:, 1].tolist() == own.tolist()
    assert answer["label"].tolist() == (own > 0.5).astype(int).tolist()
    assert set(answer["label"].tolist()) == {0, 1}


@pytest.mark.parametrize("objective", ["multi:softprob", "multi:softmax"])
def test_several_classes(folder: Path, objective: str) -> None:
    features, _ = table("iris")
    backend = XGBoostBackend(save(train("iris", objective), folder / "m.ubj"), 1)
    answer, own = backend.run({"features": features}), own_answer(train("iris", "multi:softprob"), features)
    np.testing.assert_allclose(answer["probabilities"], own, rtol=1e-6)
    assert answer["label"].tolist() == own.argmax(axis=1).tolist()
    assert answer["label"].dtype == np.int64


@pytest.mark.parametrize(
    ("objective", "parameters"),
    [
        ("reg:squarederror", {}),
        ("reg:squarederror", {"booster": "dart", "rate_drop": 0.5}),
        ("reg:squarederror", {"booster": "gblinear"}),
        ("count:poisson", {}),
    ],
)
def test_regression(folder: Path, objective: str, parameters: dict[str, Any]) -> None:
    booster, (features, _) = train("diabetes", objective, **parameters), table("diabetes")
    backend = XGBoostBackend(save(booster, folder / "m.ubj"), 1)
    assert backend.outputs == (PREDICTION,)
    answer = backend.run({"features": features})["prediction"]
    assert answer.dtype == np.float32
    np.testing.assert_allclose(answer, own_answer(booster, features), rtol=1e-6)
    assert len(set(answer.tolist())) > 5


def test_several_targets(folder: Path) -> None:
    features, target = table("diabetes")
    pairs = xgboost.DMatrix(features, np.stack([target, -target], axis=1))
    booster = xgboost.train({"nthread": 1}, pairs, 3)
    backend = XGBoostBackend(save(booster, folder / "m.ubj"), 1)
    assert backend.outputs[0].shape == (None, 2)
    assert backend.run({"features": features})["prediction"].tolist() == own_answer(booster, features).tolist()
    assert backend.run({"features": features[:0]})["prediction"].shape == (0, 2)


def test_a_model_stopped_early_answers_with_its_best_round(folder: Path) -> None:
    features, target = table("iris")
    model = xgboost.XGBClassifier(n_estimators=40, learning_rate=1.0, early_stopping_rounds=5, n_jobs=1)
    odd = np.arange(len(features)) % 2 == 1
    model.fit(features[odd], target[odd], eval_set=[(features[~odd], target[~odd])], verbose=False)
    assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
    model.save_model(folder / "m.ubj")
    answer = XGBoostBackend(folder / "m.ubj", 1).run({"features": features})
    assert answer["probabilities"].tolist() == model.predict_proba(features).tolist()
    assert answer["label"].tolist() == model.predict(features).tolist()


def test_nan_is_a_missing_value(folder: Path) -> None:
    booster, (features, _) = train("cancer", "binary:logistic"), table("cancer")
    holes = features.copy()
    holes[:, ::2] = np.nan
    backend = XGBoostBackend(save(booster, folder / "m.ubj"), 1)
    answer = backend.run({"features": holes})["probabilities"][:, 1]
    assert answer.tolist() == own_answer(booster, holes).tolist()
    assert answer.tolist() != own_answer(booster, features).tolist()


def test_zero_rows_and_strided_rows(folder: Path) -> None:
    booster, (features, _) = train("iris", "multi:softprob"), table("iris")
    backend = XGBoostBackend(save(booster, folder / "m.ubj"), 1)
    none = backend.run({"features": features[:0]})
    assert (none["label"].shape, none["probabilities"].shape) == ((0,), (0, 3))
    strided = np.repeat(features, 2, axis=1)[::2, ::2]
    assert not strided.flags.c_contiguous
    whole = backend.run({"features": features[::2]})["probabilities"]
    assert backend.run({"features": strided})["probabilities"].tolist() == whole.tolist()


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({}, "'features' is missing"),
        ({"features": np.ones((1, 3), np.float32)}, r"has shape \[1, 3\]; the artifact takes \[any, 4\]"),
        ({"features": np.ones(4, np.float32)}, r"has shape \[4\]; the artifact takes \[any, 4\]"),
        ({"features": np.ones((1, 4))}, "is of type float64; the artifact takes FP32"),
        ({"features": np.ones((1, 4), np.float32), "q": np.ones(1)}, "has no input 'q'; it takes features"),
    ],
)
def test_wrong_tensors_are_the_callers_fault(folder: Path, columns: dict[str, Array], says: str) -> None:
    backend = XGBoostBackend(save(train("iris", "multi:softprob"), folder / "m.ubj"), 1)
    with pytest.raises(InvalidInput, match=says):
        backend.run(columns)


@pytest.mark.parametrize("content", [b"", b"{}", b"\x80pickle", b'{"a":1}', b"no", "cut", None])
def test_what_is_no_artifact(folder: Path, content: Any) -> None:
    path = folder / "m.ubj"
    if content == "cut":
        path.write_bytes(save(train("iris", "multi:softprob"), folder / "whole.ubj").read_bytes()[:900])
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(
        InvalidModel, match=r"^m\.ubj: (is not an XGBoost model|cannot be read: No such file)"
    ) as caught:
        XGBoostBackend(path, 1)
    assert "\n" not in caught.value.message
    assert ".cc" not in caught.value.message


def test_any_name_where_model_yaml_names_the_backend(folder: Path) -> None:
    path = save(train("iris", "multi:softprob"), folder / "m.ubj").rename(folder / "weights.dat")
    assert create_backend(path, 1, BackendConfig("xgboost")).name == "xgboost"


@pytest.mark.parametrize(
    ("config", "says"),
    [(BackendConfig(device="cuda"), "remove `device: cuda`"), (BackendConfig(precision="bf16"), "precision: bf16")],
)
def test_what_it_cannot_obey_is_refused(folder: Path, config: BackendConfig, says: str) -> None:
    with pytest.raises(InvalidModel, match=says):
        XGBoostBackend(save(train("iris", "multi:softprob"), folder / "m.ubj"), 1, config)


@pytest.mark.slow
def test_a_fork_of_a_process_that_imported_the_library(folder: Path) -> None:
    """As workers are started: libraries with threads of their own hang where they ran before the fork."""
    path = save(train("iris", "multi:softprob"), folder / "m.ubj")
    code = (
        "import os, numpy, pathlib\n"
        "from forwardpass.backends.xgboost import XGBoostBackend\n"
        "if pid := os.fork():\n"
        "    raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
        f"backend = XGBoostBackend(pathlib.Path({str(path)!r}), 2)\n"
        "answer = backend.run({'features': numpy.ones((1000, 4), 'f4')})\n"
        "os._exit(7 if answer['probabilities'].shape == (1000, 3) else 1)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=50).returncode == 7
