"""The table from suffix to backend."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests import artifacts

from forwardpass.backends import create_backend, is_artifact
from forwardpass.errors import InvalidModel


def test_the_suffix_picks_the_backend(folder: Path) -> None:
    backend = create_backend(artifacts.affine(folder / "model.onnx"), threads=1)
    assert backend.name == "onnxruntime"
    backend.close()


def test_an_unknown_suffix_names_the_known_ones(folder: Path) -> None:
    with pytest.raises(InvalidModel, match=r"model\.pkl: no backend runs '\.pkl' files\. Known: \.onnx"):
        create_backend(folder / "model.pkl", threads=1)


@pytest.mark.parametrize(("name", "answer"), [("a.onnx", True), ("a.pkl", False), ("onnx", False)])
def test_is_artifact(name: str, answer: bool) -> None:
    assert is_artifact(Path(name)) is answer
