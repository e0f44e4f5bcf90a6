"""How the machine's cores are used: fronts, replicas of each model, threads of each replica.

A rule of thumb from the machine and the size of the artifact, for whoever has not said otherwise;
measuring what is best for one model on one machine is another matter. Starts nothing.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from forwardpass.config import ModelConfig, Settings, available_cores

LARGE = 4 * 1024 * 1024  # bytes of an artifact from which the forward pass outweighs the server
MEMORY_SHARE = 0.25  # of the machine's memory that the replicas of one model may fill with its weights
THREADS = ((4, 1), (16, 2))  # up to so many cores, so many threads: processes scale better than threads,
MOST_THREADS = 4  # but each costs memory, and threads make a single request faster
CORES_PER_FRONT = 8
MOST_FRONTS = 4


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """Worker processes of one model, and threads of each."""

    replicas: int
    threads: int

    def __str__(self) -> str:
        return f"{_count(self.replicas, 'replica')} of {_count(self.threads, 'thread')}"


def plan_model(config: ModelConfig, settings: Settings, artifact_bytes: int, memory: int | None = None) -> ModelPlan:
    """``memory`` is the machine's, in bytes (default: asked)."""
    cores = planned_cores(settings)
    replicas = config.replicas or settings.replicas
    if replicas is None:
        replicas = _replicas(cores, config.threads, artifact_bytes, memory or _memory())
    if config.threads is not None:
        return ModelPlan(replicas, config.threads)
    return ModelPlan(replicas, 1 if artifact_bytes < LARGE else max(1, cores // replicas))


def plan_fronts(settings: Settings) -> int:
    """How many fronts to run: one serves tens of thousands of requests per second."""
    return settings.fronts or min(MOST_FRONTS, max(1, planned_cores(settings) // CORES_PER_FRONT))


def planned_cores(settings: Settings) -> int:
    return settings.cores or available_cores()


def in_words(settings: Settings) -> str:
    """What is planned for the machine, in one line."""
    return f"{_count(planned_cores(settings), 'core')}, {_count(plan_fronts(settings), 'front')}"


def _replicas(cores: int, threads: int | None, artifact_bytes: int, memory: int) -> int:
    if artifact_bytes < LARGE:
        return 1
    threads = threads or next((count for most, count in THREADS if cores <= most), MOST_THREADS)
    fitting = int(MEMORY_SHARE * memory / artifact_bytes)
    return max(1, min(cores // threads, fitting))


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
