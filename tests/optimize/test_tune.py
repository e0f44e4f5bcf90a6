"""The quickest setting is found by measuring it, and chosen only where it is clearly better."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests import artifacts

from forwardpass.config import BackendConfig
from forwardpass.errors import BackendFailed
from forwardpass.optimize.speed import Setting
from forwardpass.optimize.tune import Objective, Trial, choose, create_settings, tune
from forwardpass.registry import find_model

ORT = BackendConfig("onnxruntime")
ONE = Setting(ORT, threads=1, replicas=1)
MISSING = Setting(BackendConfig("no-such-backend"), threads=1, replicas=1)


def trial(latency: float, rate: float, failed: str = "") -> Trial:
    return Trial(ONE, latency, 1, rate, failed)


@pytest.mark.parametrize(
    ("trials", "objective", "best"),
    [
        ([trial(1, 100), trial(1, 103)], "throughput", 0),  # within the noise of what would be taken anyway
        ([trial(1, 100), trial(3, 200), trial(2, 196)], "throughput", 2),  # nearly as many rows, each sooner
        ([trial(1, 100), trial(9, 500, "it crashed"), trial(2, 120)], "throughput", 2),
        ([trial(1, 100), trial(0.98, 900)], "latency", 0),
        ([trial(1, 100), trial(0.5, 50)], "latency", 1),
    ],
)
def test_what_is_chosen(trials: list[Trial], objective: Objective, best: int) -> None:
    assert choose(trials, objective) is trials[best]


def test_settings_fill_the_cores_and_begin_with_the_usual_one(folder: Path) -> None:
    artifacts.affine(folder / "model.onnx")
    settings = create_settings(find_model(folder), ONE, cores=6)
    assert settings[0] == ONE
    assert {(item.threads, item.replicas) for item in settings[1:]} == {(1, 6), (2, 3), (4, 1)}
    assert len(settings) == len(set(settings))


def test_a_backend_that_model_yaml_names_is_not_changed(folder: Path) -> None:
    artifacts.affine(folder / "model.onnx")
    (folder / "model.yaml").write_text("backend: {name: onnxruntime}\n")
    assert {item.backend for item in create_settings(find_model(folder), ONE, cores=4)} == {ORT}


@pytest.mark.slow
def test_measured_on_the_sample_and_what_fails_is_left_out(folder: Path) -> None:
    artifacts.affine(folder / "model.onnx")
    found = tune(find_model(folder), [ONE, MISSING, Setting(ORT, 1, 2)], 0.01, "throughput")
    assert "there is no backend 'no-such-backend'" in found.trials[1].failed
    assert found.chosen is not found.trials[1]
    assert list(found.trials[2].rates) == [1, 2, 4, 8, 16, 32]
    assert min(found.trials[0].latency, found.trials[2].rate) > 0


@pytest.mark.slow
def test_where_the_usual_setting_fails_there_is_nothing_to_compare_with(folder: Path) -> None:
    artifacts.affine(folder / "model.onnx")
    with pytest.raises(BackendFailed, match="there is no backend 'no-such-backend'"):
        tune(find_model(folder), [MISSING, ONE], 0.01, "latency")
