"""What was measured on this machine is used where ``model.yaml`` leaves it open, and nowhere else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests import artifacts

from forwardpass.config import BackendConfig
from forwardpass.registry import digest_files, find_model
from forwardpass.registry.tuned import Tuned, find_tuned, forget, remember, tuned_file

FASTER = Tuned(BackendConfig("openvino"), threads=2, replicas=3, max_batch_size=8)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_it_fills_what_is_open(folder: Path) -> None:
    artifact = artifacts.affine(folder / "model.onnx")
    assert find_model(folder).tuned is None
    remember(artifact, FASTER)
    config = find_model(folder).config
    assert (config.backend.name, config.threads, config.replicas) == ("openvino", 2, 3)
    assert config.limits.max_batch_size == 8


def test_what_people_wrote_stands_above_it(folder: Path) -> None:
    artifact = artifacts.affine(folder / "model.onnx")
    lines = "backend: {name: onnxruntime}\nthreads: 1\nlimits: {max_batch_size: 4}\n"
    (folder / "model.yaml").write_text(lines)
    remember(artifact, FASTER)
    config = find_model(folder).config
    assert (config.backend.name, config.threads, config.replicas) == ("onnxruntime", 1, 3)
    assert config.limits.max_batch_size == 4


def test_another_artifact_in_its_place_has_none(folder: Path) -> None:
    artifact = artifacts.affine(folder / "model.onnx")
    remember(artifact, FASTER)
    os.utime(artifact, ns=(0, 1))
    assert find_tuned(artifact) is None


def test_forgotten(folder: Path) -> None:
    artifact = artifacts.affine(folder / "model.onnx")
    remember(artifact, FASTER)
    assert forget(artifact)
    assert find_tuned(artifact) is None
    assert not forget(artifact)


def test_a_broken_file_is_told_and_left_out(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    artifact = artifacts.affine(folder / "model.onnx")
    remember(artifact, FASTER).write_text("{")
    assert find_model(folder).tuned is None
    assert str(tuned_file(artifact)) in caplog.text


def test_it_counts_in_the_digest(folder: Path) -> None:
    artifact = artifacts.affine(folder / "model.onnx")
    before = digest_files(find_model(folder))
    remember(artifact, FASTER)
    assert digest_files(find_model(folder)) != before
