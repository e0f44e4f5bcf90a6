"""What is planned from a machine, and that whoever says otherwise is obeyed."""

from __future__ import annotations

import pytest

from forwardpass.config import ModelConfig, Settings
from forwardpass.server.plan import LARGE, ModelPlan, in_words, plan_fronts, plan_model

GB = 1024**3
SMALL = ModelPlan(1, 1)


@pytest.mark.parametrize(
    ("cores", "replicas", "threads"),
    [(1, 1, 1), (2, 2, 1), (4, 4, 1), (8, 4, 2), (16, 8, 2), (32, 8, 4), (64, 16, 4)],
)
def test_large_artifacts_use_all_cores(cores: int, replicas: int, threads: int) -> None:
    plan = plan_model(ModelConfig(), Settings(cores=cores), 2 * LARGE, memory=64 * GB)
    assert plan == ModelPlan(replicas, threads)


@pytest.mark.parametrize("cores", [1, 2, 64])
def test_small_ones_run_in_one_process_with_one_thread(cores: int) -> None:
    assert plan_model(ModelConfig(), Settings(cores=cores), LARGE - 1, memory=64 * GB) == SMALL


def test_an_artifact_that_fills_the_memory_is_held_once_and_computes_with_all_cores() -> None:
    assert plan_model(ModelConfig(), Settings(cores=8), 4 * GB, memory=16 * GB) == ModelPlan(1, 8)
    assert plan_model(ModelConfig(), Settings(cores=8), 2 * GB, memory=16 * GB) == ModelPlan(2, 4)


def test_the_model_wins_over_the_server_and_the_server_over_the_plan() -> None:
    settings = Settings(cores=8, replicas=2)
    assert plan_model(ModelConfig(), settings, 2 * LARGE, memory=64 * GB) == ModelPlan(2, 4)
    assert plan_model(ModelConfig(replicas=3), settings, 2 * LARGE, memory=64 * GB) == ModelPlan(3, 2)
    assert plan_model(ModelConfig(replicas=3, threads=5), settings, 1, memory=64 * GB) == ModelPlan(3, 5)
    assert plan_model(ModelConfig(threads=4), Settings(cores=8), 2 * LARGE, memory=64 * GB) == ModelPlan(2, 4)


@pytest.mark.parametrize(("cores", "fronts"), [(1, 1), (8, 1), (15, 1), (16, 2), (64, 4), (256, 4)])
def test_machines_of_many_cores_get_several_fronts(cores: int, fronts: int) -> None:
    assert plan_fronts(Settings(cores=cores)) == fronts
    assert plan_fronts(Settings(cores=cores, fronts=3)) == 3


def test_it_is_told_in_words() -> None:
    assert in_words(Settings(cores=2)) == "2 cores, 1 front"
    assert str(ModelPlan(2, 1)) == "2 replicas of 1 thread"
