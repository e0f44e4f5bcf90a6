"""Native or ONNX: a forest and three kinds of gradient boosting, each imported both ways and measured.

Data: the payments of `examples/training/fraud.py`, made there and no real ones: 30,000 rows to train on, 10,000 later
ones held out, as the features that the `fraud` model's own model.yaml makes of them. Each model is imported by
`forwardpass.import_model`, as ONNX and in its library's own format, and compared on the held-out rows.
Run `python examples/optimize/trees.py`; it writes docs/optimize/trees.md.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

import forwardpass
from forwardpass.config import read_model_config
from forwardpass.optimize.bootstrap import Interval, score_interval
from forwardpass.optimize.convert import ImportReport
from forwardpass.optimize.lineage import libraries, machine
from forwardpass.optimize.metric import METRICS

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run as a file, only this folder is there
from examples.training import fraud

REPORT = Path(__file__).resolve().parents[2] / "docs" / "optimize" / "trees.md"
FORMATS = ("native", "onnx")
BATCHES = (1, 256)
ROUNDS, SECONDS = 7, 0.3  # of each model, format and batch in each round
CLEARLY = 1.03  # the gate's own least gain: less is noise
LIBRARIES = ("forwardpass", "scikit-learn", "xgboost-cpu", "lightgbm", "onnxruntime")
Table = NDArray[np.float32]


@dataclass
class Case:
    """One trained model. ``times`` has by format and batch the median seconds of a batch, one of each round."""

    name: str
    imported: dict[str, ImportReport]
    sizes: dict[str, int]
    auc: dict[str, Interval]
    times: dict[tuple[str, int], list[float]] = field(default_factory=dict)


def estimators() -> dict[str, Any]:
    """Models of usual sizes, none of them tuned to this data."""
    from lightgbm import LGBMClassifier
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from xgboost import XGBClassifier

    return {
        "random forest": RandomForestClassifier(100, max_depth=12, min_samples_leaf=5, n_jobs=2, random_state=0),
        "HistGradientBoosting": HistGradientBoostingClassifier(
            learning_rate=0.06, max_iter=150, early_stopping=False, random_state=0
        ),
        "XGBoost": XGBClassifier(n_estimators=150, max_depth=6, learning_rate=0.06, n_jobs=2, random_state=0),
        "LightGBM": LGBMClassifier(n_estimators=150, learning_rate=0.06, n_jobs=2, random_state=0, verbose=-1),
    }


def payments() -> tuple[Table, NDArray[np.int64], Table, NDArray[np.int64]]:
    """Features and labels to train on, then held-out ones."""
    columns, labels, later, later_labels = fraud.split()
    config = read_model_config(fraud.FOLDER)
    made = fraud.features(config, columns), fraud.features(config, later)
    return made[0], labels.astype(np.int64), made[1], later_labels.astype(np.int64)


def import_both(name: str, model: Any, folder: Path, features: Table, labels: NDArray[np.int64]) -> Case:
    """The model in both formats under `folder`. Raises `InvalidModel` where a row is answered otherwise."""
    columns = {"features": features}
    case = Case(name, {}, {}, {})
    for kind in FORMATS:
        report = forwardpass.import_model(model, folder / kind, data=columns, native=kind == "native")
        case.imported[kind] = report
        case.sizes[kind] = (folder / kind / report.artifact).stat().st_size
        case.auc[kind] = auc(folder / kind, features, labels)
    return case


def auc(folder: Path, features: Table, labels: NDArray[np.int64]) -> Interval:
    """On held-out rows, with its interval."""
    with closing(forwardpass.load(folder, threads=1)) as engine:
        answer = engine.predict({"features": features})
    metric = METRICS["auc"]
    return score_interval(metric, metric.pair(labels.astype(object), answer["probabilities"]), 500)


def measure(cases: list[Case], work: Path, features: Table, rounds: int = ROUNDS, seconds: float = SECONDS) -> None:
    """All formats and batches of a model in turn, and the models in turn, `rounds` times."""
    with ExitStack() as loaded:
        engines = {
            (case.name, kind): loaded.enter_context(closing(forwardpass.load(work / case.name / kind, threads=1)))
            for case in cases
            for kind in FORMATS
        }
        for _ in range(rounds):
            for case in cases:
                for batch in BATCHES:
                    for kind in FORMATS:
                        taken = _batch_seconds(engines[case.name, kind], features, batch, seconds)
                        case.times.setdefault((kind, batch), []).append(taken)


def _batch_seconds(engine: forwardpass.Engine, features: Table, batch: int, seconds: float) -> float:
    """The median batch, of rows in turn; the first is not counted."""
    taken: list[float] = []
    batches = _batches(features, batch)
    engine.predict(next(batches))
    begun = perf_counter()
    while not taken or perf_counter() - begun < seconds:
        columns = next(batches)
        started = perf_counter()
        engine.predict(columns)
        taken.append(perf_counter() - started)
    return median(taken)


def _batches(features: Table, size: int) -> Iterator[dict[str, Table]]:
    """Real rows without end: each goes its own way through the trees."""
    starts = range(0, len(features) - size + 1, size)
    while True:
        for start in starts:
            yield {"features": features[start : start + size]}


def gain(case: Case, batch: int) -> list[float]:
    """How many times faster ONNX is than native, by round."""
    pairs = zip(case.times["native", batch], case.times["onnx", batch], strict=True)
    return [native / onnx for native, onnx in pairs]


def choice(case: Case, batch: int) -> str:
    """The format that is clearly faster, or "either"."""
    found = median(gain(case, batch))
    if found >= CLEARLY:
        return "ONNX"
    return "native" if found <= 1 / CLEARLY else "either"


def report(cases: list[Case], rows: int, frauds: int) -> str:
    """The page."""
    return "\n".join(
        [
            "# Trees: native or ONNX",
            "",
            "<!-- Written by examples/optimize/trees.py. -->",
            "",
            f"Trained on 30,000 generated payments; {rows:,} later ones with {frauds} frauds are held out. Each model",
            f"was imported twice and measured on {_where()}, on one core, in {ROUNDS} rounds in which all take turns:",
            "the median batch of a round, of these the median, and in brackets the least and the greatest. What is",
            "timed is `Engine.predict` on held-out rows.",
            "",
            *_speeds(cases),
            "",
            "## Which to choose",
            "",
            *_choices(cases),
            "",
            "## The same answers",
            "",
            *_answers(cases),
            "",
            ", ".join(f"{name} {version}" for name, version in libraries().items() if name in LIBRARIES) + ".",
            "",
        ]
    )


def _where() -> str:
    return str(machine()["processor"])


def _speeds(cases: list[Case]) -> list[str]:
    lines = ["| model | format | one row, ms | 256 rows, ms | rows/s one by one | rows/s by 256 |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for case in cases:
        for kind in FORMATS:
            times = [case.times[kind, batch] for batch in BATCHES]
            rates = [batch / median(found) for batch, found in zip(BATCHES, times, strict=True)]
            cells = [*map(_milliseconds, times), *(f"{rate:,.0f}" for rate in rates)]
            lines.append(f"| {case.name} | {_title(case, kind)} | {' | '.join(cells)} |")
    return lines


def _choices(cases: list[Case]) -> list[str]:
    lines = ["| model | ONNX against native, one row | choose | 256 rows | choose |", "| --- | --- | --- | --- | --- |"]
    for case in cases:
        cells = [cell for batch in BATCHES for cell in (_times(gain(case, batch)), choice(case, batch))]
        lines.append(f"| {case.name} | {' | '.join(cells)} |")
    return [*lines, "", f"A ratio between {1 / CLEARLY:.2f} and {CLEARLY} counts as noise."]


def _answers(cases: list[Case]) -> list[str]:
    lines = ["| model | format | size | ROC AUC, 95 % interval | largest difference | other labels |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for case in cases:
        for kind in FORMATS:
            compared, found = case.imported[kind].comparison, case.auc[kind]
            differs = f"{max(compared.largest.values()):.1e} | {compared.wrong_labels + compared.ties}"
            interval = f"{found.value:.4f} [{found.low:.4f} to {found.high:.4f}]"
            size = f"{case.sizes[kind] / 1e6:.2f} MB"
            lines.append(f"| {case.name} | {_title(case, kind)} | {size} | {interval} | {differs} |")
    return [*lines, "", "Differences are those of probabilities from the trained model's own, on all held-out rows."]


def _title(case: Case, kind: str) -> str:
    return f"`{case.imported[kind].artifact.removeprefix('model')}`"


def _milliseconds(seconds: list[float]) -> str:
    middle, least, most = (1000 * value for value in (median(seconds), min(seconds), max(seconds)))
    return f"{middle:.3f} ({least:.3f} to {most:.3f})"


def _times(ratios: list[float]) -> str:
    return f"{median(ratios):.2f} times ({min(ratios):.2f} to {max(ratios):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures trees in their own format and as ONNX.")
    parser.add_argument("--report", type=Path, default=REPORT, help="where the report goes")
    file = parser.parse_args().report
    features, labels, later, later_labels = payments()
    with TemporaryDirectory() as work:
        cases = []
        for name, model in estimators().items():
            model.fit(features, labels)
            cases.append(import_both(name, model, Path(work) / name, later, later_labels))
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        measure(cases, Path(work), later)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(report(cases, len(later), int(later_labels.sum())), encoding="utf-8")
    print(file)


if __name__ == "__main__":
    main()
