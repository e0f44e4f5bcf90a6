"""LightGBM: the library's own answers by objective, missing values, and what goes wrong in words."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris

from forwardpass.backends import create_backend
from forwardpass.backends.lightgbm import LightGBMBackend
from forwardpass.config import BackendConfig
from forwardpass.errors import InvalidInput, InvalidModel
from forwardpass.types import Array, DType, TensorSpec

DATA = {"iris": load_iris, "cancer": load_breast_cancer, "diabetes": load_diabetes}


def table(name: str) -> Array:
    return np.asarray(DATA[name](return_X_y=True)[0])


def train(data: str, objective: Any, **parameters: Any) -> Any:
    features, target = DATA[data](return_X_y=True)
    settings = {"objective": objective, "num_threads": 1, "verbosity": -1, **parameters}
    return lightgbm.train(settings, lightgbm.Dataset(features, target), 4)


def save(booster: Any, path: Path) -> Path:
    booster.save_model(path)
    return path


def test_two_classes(folder: Path) -> None:
    booster, features = train("cancer", "binary"), table("cancer")
    backend = create_backend(save(booster, folder / "m.lightgbm.txt"), 1)
    assert isinstance(backend, LightGBMBackend)
    assert backend.inputs == (TensorSpec("features", DType.FP64, (None, 30)),)
    assert [(s.name, s.dtype, s.shape) for s in backend.outputs] == [
        ("label", DType.INT64, (None,)),
        ("probabilities", DType.FP32, (None, 2)),
    ]
    assert backend.batched
    answer, own = backend.run({"features": features}), booster.predict(features)
    assert answer["probabilities"][:, 1].tolist() == own.astype(np.float32).tolist()
    assert answer["label"].tolist() == (own > 0.5).astype(int).tolist()
    assert set(answer["label"].tolist()) == {0, 1}


@pytest.mark.parametrize("objective", ["multiclass", "multiclassova"])
def test_several_classes(folder: Path, objective: str) -> None:
    booster, features = train("iris", objective, num_class=3), table("iris")
    answer = LightGBMBackend(save(booster, folder / "m.lightgbm.txt"), 1).run({"features": features})
    own = booster.predict(features)
    assert answer["probabilities"].tolist() == own.astype(np.float32).tolist()
    assert answer["label"].tolist() == own.argmax(axis=1).tolist()


@pytest.mark.parametrize(
    ("objective", "parameters"),
    [
        ("regression", {}),
        ("poisson", {}),
        ("regression", {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5}),
        ("regression", {"linear_tree": True}),
    ],
)
def test_regression(folder: Path, objective: str, parameters: dict[str, Any]) -> None:
    booster, features = train("diabetes", objective, **parameters), table("diabetes")
    backend = LightGBMBackend(save(booster, folder / "m.lightgbm.txt"), 1)
    assert backend.outputs == (TensorSpec("prediction", DType.FP64, (None,)),)
    answer = backend.run({"features": features})["prediction"]
    np.testing.assert_allclose(answer, booster.predict(features), rtol=1e-12)
    assert len(set(answer.tolist())) > 5


def test_an_objective_of_ones_own_gives_its_scores(folder: Path) -> None:
    def squares(predicted: Array, data: Any) -> tuple[Array, Array]:
        wanted = np.tile(data.get_label(), predicted.size // data.num_data()).reshape(predicted.shape, order="F")
        return predicted - wanted, np.ones_like(predicted)

    booster, features = train("iris", squares, num_class=3), table("iris")
    backend = LightGBMBackend(save(booster, folder / "m.lightgbm.txt"), 1)
    assert backend.outputs == (TensorSpec("prediction", DType.FP64, (None, 3)),)
    assert backend.run({"features": features})["prediction"].tolist() == booster.predict(features).tolist()


def test_nan_is_a_missing_value(folder: Path) -> None:
    booster, features = train("cancer", "binary"), table("cancer")
    holes = features.copy()
    holes[:, ::2] = np.nan
    answer = LightGBMBackend(save(booster, folder / "m.lightgbm.txt"), 1).run({"features": holes})
    assert answer["probabilities"][:, 1].tolist() == booster.predict(holes).astype(np.float32).tolist()
    assert answer["label"].tolist() != (booster.predict(features) > 0.5).tolist()


def test_zero_rows_and_strided_rows(folder: Path) -> None:
    booster, features = train("iris", "multiclass", num_class=3), table("iris")
    backend = LightGBMBackend(save(booster, folder / "m.lightgbm.txt"), 1)
    none = backend.run({"features": features[:0]})
    assert (none["label"].shape, none["probabilities"].shape) == ((0,), (0, 3))
    strided = np.repeat(features, 2, axis=1)[::2, ::2]
    whole = backend.run({"features": features[::2]})["probabilities"]
    assert backend.run({"features": strided})["probabilities"].tolist() == whole.tolist()


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({}, "'features' is missing"),
        ({"features": np.ones((1, 3))}, r"has shape \[1, 3\]; the artifact takes \[any, 4\]"),
        ({"features": np.ones(4)}, r"has shape \[4\]; the artifact takes \[any, 4\]"),
        ({"features": np.ones((1, 4), np.float32)}, "is of type float32; the artifact takes FP64"),
    ],
)
def test_wrong_tensors_are_the_callers_fault(folder: Path, columns: dict[str, Array], says: str) -> None:
    backend = LightGBMBackend(save(train("iris", "multiclass", num_class=3), folder / "m.lightgbm.txt"), 1)
    with pytest.raises(InvalidInput, match=says):
        backend.run(columns)


@pytest.mark.parametrize("content", [b"", b"{}", b"\x80pickle", b"tree\nversion=v4\n", "cut", None])
def test_what_is_no_artifact(folder: Path, content: Any, capfd: pytest.CaptureFixture[str]) -> None:
    path = folder / "m.lightgbm.txt"
    if content == "cut":
        path.write_bytes(save(train("diabetes", "regression"), folder / "whole.txt").read_bytes()[:300])
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidModel, match=r"^m\.lightgbm\.txt: (is not a LightGBM model|there is no such)") as caught:
        LightGBMBackend(path, 1)
    assert "\n" not in caught.value.message
    assert capfd.readouterr().out == "", "standard output is for answers"


def test_warnings_do_not_go_to_standard_output(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A model of another release has parameters that this one does not know."""
    path = save(train("diabetes", "regression", verbosity=1), folder / "m.lightgbm.txt")
    assert "[Info]" in capfd.readouterr().out, "the library talks"
    path.write_text(path.read_text().replace("[sigmoid: ", "[sigmoid_of_old: "))
    backend = LightGBMBackend(path, 1)
    assert backend.run({"features": table("diabetes")})["prediction"].shape == (442,)
    printed = capfd.readouterr()
    assert (printed.out, "sigmoid_of_old" in printed.err) == ("", True)


def test_what_it_cannot_obey_is_refused(folder: Path) -> None:
    path = save(train("diabetes", "regression"), folder / "m.lightgbm.txt")
    with pytest.raises(InvalidModel, match="remove `device: cuda`"):
        LightGBMBackend(path, 1, BackendConfig(device="cuda"))


@pytest.mark.slow
def test_a_fork_of_a_process_that_imported_the_library(folder: Path) -> None:
    """As workers are started: libraries with threads of their own hang where they ran before the fork."""
    path = save(train("iris", "multiclass", num_class=3), folder / "m.lightgbm.txt")
    code = (
        "import os, numpy, pathlib\n"
        "from forwardpass.backends.lightgbm import LightGBMBackend\n"
        "if pid := os.fork():\n"
        "    raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
        f"backend = LightGBMBackend(pathlib.Path({str(path)!r}), 2)\n"
        "answer = backend.run({'features': numpy.ones((1000, 4))})\n"
        "os._exit(7 if answer['probabilities'].shape == (1000, 3) else 1)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=50).returncode == 7
