from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests import artifacts
from tests.optimize.recipes import parents

from forwardpass.config import BackendConfig
from forwardpass.optimize.recipe import Parent
from forwardpass.optimize.recipes.nncf import FullInt8, WeightsOnly, create_compressors
from forwardpass.registry import find_model

SILENT = """
import socket, sys
def refuse(*args, **kwargs): raise AssertionError("the network is asked")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from pathlib import Path
from forwardpass.optimize.recipe import Parent
from forwardpass.optimize.recipes.nncf import WeightsOnly
from forwardpass.registry import find_model
source, target = map(Path, sys.argv[1:])
WeightsOnly(8, smallest=0).make(Parent(find_model(source)), target)
from nncf.telemetry import telemetry
assert type(telemetry).__name__ == "MagicMock", "nncf's own word for no reports"
assert not sys.modules.get("openvino_telemetry"), "OpenVINO reports as soon as it is imported"
"""


@pytest.mark.slow
def test_full_int8_of_a_text_encoder(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    parent = parents.parent(parents.attention(folder / "encoder.onnx"), parents.texts(64))
    assert FullInt8().unsuitable(parent) == ""
    candidate = folder / "candidate"
    candidate.mkdir()
    FullInt8().make(parent, candidate)
    assert capfd.readouterr().out == ""
    parents.assert_whole(candidate, parent)
    assert parents.agreement(candidate, parent.files.artifact, parents.texts(100, seed=1)) >= 0.95
    assert find_model(candidate).config.backend == BackendConfig("openvino")


@pytest.mark.slow
@pytest.mark.parametrize(("bits", "share"), [(8, 0.5), (4, 0.5)])
def test_weights_alone(bits: int, share: float, folder: Path) -> None:
    parent, rows = parents.digits()
    recipe = WeightsOnly(8 if bits == 8 else 4, smallest=0)
    assert recipe.unsuitable(parent) == ""
    recipe.make(parent, folder)
    parents.assert_whole(folder, parent)
    assert parents.agreement(folder, parent.files.folder, rows) >= 0.97
    assert (folder / "model.bin").stat().st_size < share * parent.files.artifact.stat().st_size
    assert (folder / "labels.txt").is_file()
    assert not (folder / "model.onnx").exists()


@pytest.mark.slow
def test_nothing_is_reported_and_nothing_printed(folder: Path) -> None:
    """In a process of its own: nncf keeps quiet by itself where pytest is loaded."""
    command = [sys.executable, "-c", SILENT, str(parents.MODELS / "digits"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


def test_smoothing_is_for_attention(folder: Path) -> None:
    parent, _ = parents.digits()
    assert FullInt8(smooth=True).unsuitable(parent) == "it has no attention to smooth"
    encoder = parents.parent(parents.attention(folder / "encoder.onnx"), parents.texts(1))
    assert FullInt8(smooth=True).unsuitable(encoder) == ""


def test_small_weights_are_left() -> None:
    parent, _ = parents.digits()
    assert "small (0.4 MB)" in WeightsOnly(8).unsuitable(parent)


def test_what_cannot_be_compressed(folder: Path) -> None:
    trees = Parent(find_model(parents.trees(folder / "trees.onnx")))
    convolutions = Parent(find_model(parents.convolutions(folder / "pictures.onnx")))
    for recipe in create_compressors():
        assert recipe.unsuitable(trees)
    assert FullInt8().unsuitable(convolutions) == "no rows to calibrate with"
    products = Parent(find_model(artifacts.affine(folder / "affine.onnx")))
    assert "small" in WeightsOnly(4).unsuitable(products)
