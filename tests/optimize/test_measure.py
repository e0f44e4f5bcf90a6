"""Probes: what they measure of a model whose speed is known, and what is told of one that crashes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests import artifacts
from tests.optimize import candidates

from forwardpass.optimize.measure import ProbeFailed, Probes, artifact_size
from forwardpass.registry import find_model

DELAY = 0.02  # seconds of each batch


@pytest.fixture
def probes(tmp_path: Path) -> Probes:
    found = Probes(tmp_path / "probe", threads=1, seconds=0.1, timeout=30)
    found.use({"x": np.random.default_rng(0).standard_normal((50, candidates.FEATURES)).astype(np.float32)})
    return found


def test_speed_is_what_it_must_be(probes: Probes, tmp_path: Path) -> None:
    """Each batch sleeps, whatever its size: so the largest is the best, and uses next to no processor."""
    figures = probes.time(candidates.parent(tmp_path / "m", DELAY), 7)
    assert DELAY <= figures.p50 <= figures.p99
    assert figures.batch >= 128
    assert figures.throughput <= figures.batch / DELAY
    assert figures.cpu < DELAY / 10
    assert figures.start > DELAY
    assert figures.size == 7
    assert 10_000_000 < figures.memory <= figures.peak


def test_predictions_are_of_all_rows_in_order(probes: Probes, tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((50, candidates.FEATURES)).astype(np.float32)
    found = probes.predict(candidates.parent(tmp_path / "m", 0))
    np.testing.assert_allclose(found.columns["y"], x @ artifacts.weights(4, 3) + 1, rtol=1e-5, atol=1e-5)
    assert found.refused == {}


def test_a_crash_is_told_by_its_signal_and_an_error_in_words(probes: Probes, tmp_path: Path) -> None:
    folder = candidates.parent(tmp_path / "m", 0)
    candidates.write_steps(folder, 0, "os.abort()")
    with pytest.raises(ProbeFailed, match="its process was killed by SIGABRT"):
        probes.predict(folder)
    (folder / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(ProbeFailed, match=r"model\.onnx"):
        probes.predict(folder)


def test_weights_beside_the_artifact_count(tmp_path: Path) -> None:
    path = artifacts.identity(tmp_path / "m" / "model.onnx")
    alone = path.stat().st_size
    (tmp_path / "m" / "model.onnx.data").write_bytes(b"x" * 1000)
    (tmp_path / "m" / "README.md").write_bytes(b"x" * 1000)
    assert artifact_size(find_model(tmp_path / "m")) == alone + 1000
