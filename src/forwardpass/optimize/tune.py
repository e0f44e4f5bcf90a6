"""The quickest way to run a model as it is on this machine: backend at full precision, threads, replicas, batch cap.

    settings ─► three rounds, every setting measured in each ─► medians ─► the best, if it is clearly better

No data is needed: the model's own sample is run, and a setting that answers it otherwise is out.
Knows no accuracy beyond that; ``optimize`` measures accuracy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Literal

from forwardpass.artifacts import artifact_suffix
from forwardpass.config import MODEL_FILE, BackendConfig, Limits
from forwardpass.errors import BackendFailed
from forwardpass.optimize.speed import Ran, Setting, Speedometer, replicas_beside, same_answers
from forwardpass.registry import ModelFiles
from forwardpass.registry.tuned import Tuned
from forwardpass.types import Array

Objective = Literal["throughput", "latency"]

ROUNDS = 3
CLEARLY = 1.05  # times better than what would be chosen without measuring; less is noise
NEARLY = 0.95  # of the best rate: a smaller batch, or a setting that answers sooner, is taken instead
ROUNDING = 1e-3  # absolute and relative, between the answers of two backends in fp32
ON_ONNX = {"onnxruntime": "onnxruntime", "openvino": "openvino", "onnxruntime-openvino": "onnxruntime_ep_openvino"}


@dataclass
class Trial:
    """What was measured of a setting. ``batch`` is the size at which ``rate`` (rows/s) was reached."""

    setting: Setting
    latency: float = 0.0  # seconds of one row, one process at work
    batch: int = 1
    rate: float = 0.0
    failed: str = ""
    rates: dict[int, float] = field(default_factory=dict)  # rows/s by rows of a batch, medians


@dataclass(frozen=True)
class _Round:
    """One row at a time in one process, and batches of each size in all of them."""

    answers: dict[str, Array]
    alone: Ran
    sizes: dict[int, Ran]


@dataclass(frozen=True)
class Tuning:
    """All trials, the first that of the setting without tuning, and the one chosen."""

    trials: Sequence[Trial]
    chosen: Trial

    def tuned(self) -> Tuned:
        """What is worth remembering."""
        setting = self.chosen.setting
        cap = self.chosen.batch if self.chosen.batch < Limits().max_batch_size else None
        return Tuned(setting.backend, setting.threads, setting.replicas, cap)


def create_settings(files: ModelFiles, usual: Setting, cores: int) -> list[Setting]:
    """What is worth trying, ``usual`` first: backends that are installed, threads from one to all cores."""
    backends = [usual.backend]
    if artifact_suffix(files.artifact) == ".onnx" and files.config.backend.name is None:
        backends = [BackendConfig(name) for name, module in ON_ONNX.items() if find_spec(module)]
    shares = replicas_beside(cores, [2**power for power in range(cores.bit_length())])
    tried = [Setting(backend, threads, replicas) for backend in backends for threads, replicas in shares]
    return [usual, *(setting for setting in tried if setting != usual)]


def tune(
    files: ModelFiles,
    settings: Sequence[Setting],
    seconds: float,
    objective: Objective,
    tell: Callable[[str], None] = lambda text: None,
) -> Tuning:
    """Measure all settings, each batch size for ``seconds`` a round, and choose.

    Raises ``BackendFailed`` where the first setting, the usual one, cannot be measured.
    """
    path = files.folder if files.folder.joinpath(MODEL_FILE).is_file() else files.artifact
    trials = [Trial(setting) for setting in settings]
    measured: dict[int, list[_Round]] = {at: [] for at in range(len(trials))}
    for turn in range(ROUNDS):
        for at, trial in enumerate(trials):
            if trial.failed:
                continue
            tell(f"round {turn + 1} of {ROUNDS}: {trial.setting}")
            try:
                measured[at].append(_measure(path, trial.setting, seconds, files.config.limits.max_batch_size))
                if not same_answers(measured[0][0].answers, measured[at][0].answers, ROUNDING):
                    raise BackendFailed("answers the sample otherwise")
            except BackendFailed as error:
                if at == 0:
                    raise BackendFailed(f"{trial.setting}: {error.message}") from None
                trial.failed = error.message
    for at, trial in enumerate(trials):
        if not trial.failed:
            _sum_up(trial, measured[at])
    return Tuning(trials, choose(trials, objective))


def choose(trials: Sequence[Trial], objective: Objective) -> Trial:
    """The best trial, where it is clearly better than the first; else the first."""
    usual, well = trials[0], [trial for trial in trials if not trial.failed]
    if objective == "latency":
        best = min(well, key=lambda trial: trial.latency)
        return best if usual.latency / best.latency >= CLEARLY else usual
    most = max(trial.rate for trial in well)
    best = min((trial for trial in well if trial.rate >= NEARLY * most), key=lambda trial: trial.latency)
    return best if best.rate / usual.rate >= CLEARLY else usual


def _measure(path: Path, setting: Setting, seconds: float, largest: int) -> _Round:
    with Speedometer(path, setting) as meter:
        ready = meter.ready()
        sizes = _sizes(largest) if ready.batched else [1]
        alone = meter.run(1, seconds, alone=True)
        return _Round(ready.answers, alone, {size: meter.run(size, seconds) for size in sizes})


def _sizes(largest: int) -> list[int]:
    return [2**power for power in range(largest.bit_length()) if 2**power <= largest]


def _sum_up(trial: Trial, rounds: Sequence[_Round]) -> None:
    trial.latency = median(turn.alone.batch_seconds for turn in rounds)
    trial.rates = {size: median(turn.sizes[size].rate for turn in rounds) for size in rounds[0].sizes}
    most = max(trial.rates.values())
    trial.batch, trial.rate = next((size, rate) for size, rate in trial.rates.items() if rate >= NEARLY * most)
