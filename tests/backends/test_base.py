"""The table from suffix to backend."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests import artifacts

from forwardpass.artifacts import ARTIFACTS, artifact_suffix
from forwardpass.backends import create_backend
from forwardpass.backends.base import _BACKENDS
from forwardpass.config import BackendConfig
from forwardpass.errors import InvalidModel


def test_the_suffix_picks_the_backend(folder: Path) -> None:
    backend = create_backend(artifacts.affine(folder / "model.onnx"), threads=1)
    assert backend.name == "onnxruntime"
    backend.close()


def test_an_unknown_suffix_names_the_known_ones(folder: Path) -> None:
    with pytest.raises(InvalidModel, match=r"model\.odt: no backend runs '\.odt' files\. Known: \.joblib"):
        create_backend(folder / "model.odt", threads=1)


def test_an_unknown_backend_names_the_nearest(folder: Path) -> None:
    with pytest.raises(InvalidModel, match=r"there is no backend 'openvin'. Did you mean 'openvino'"):
        create_backend(artifacts.affine(folder / "model.onnx"), 1, BackendConfig(name="openvin"))


def test_every_artifact_has_a_backend() -> None:
    assert set(ARTIFACTS.values()) <= set(_BACKENDS)


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("a.onnx", ".onnx"), ("a.bin", None), ("onnx", None), ("a.xgboost.json", ".xgboost.json"), ("sample.json", None)],
)
def test_what_an_artifact_is_called(name: str, suffix: str | None) -> None:
    assert artifact_suffix(Path(name)) == suffix
