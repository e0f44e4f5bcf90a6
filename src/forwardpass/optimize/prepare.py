"""What a search is asked for, and all that is got ready before any candidate is made.

    parent ─► held-out and calibration rows ─► the parent's answers ─► metric ─► rows enough? ─► trials

Whatever is wrong with the model, the data or the metric is said here. Knows no recipes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from time import monotonic

import numpy as np

from forwardpass.engine.engine import Engine
from forwardpass.errors import BackendFailed, InvalidInput, InvalidRows
from forwardpass.optimize import metric
from forwardpass.optimize.bootstrap import rows_needed
from forwardpass.optimize.gate import Gate
from forwardpass.optimize.heldout import HeldOut, LabelledRows, read_held_out
from forwardpass.optimize.measure import ROUNDS, Probes
from forwardpass.optimize.place import Place
from forwardpass.optimize.quality import Judge
from forwardpass.optimize.recipe import Parent
from forwardpass.optimize.results import Objective
from forwardpass.optimize.targets import Target
from forwardpass.optimize.trial import Trials
from forwardpass.registry import digest_files
from forwardpass.types import Columns

CALIBRATION_BATCH = 16  # rows
LONGEST = 3600.0  # seconds in which the parent must have answered all rows, unless the budget is large


@dataclass(frozen=True)
class Options:
    """What is asked for. ``max_drop`` is a share, ``budget`` in seconds; ``inputs`` maps inputs to columns of the data.

    ``seconds`` are spent on each latency and each throughput, ``rounds`` times per candidate. A process is given up
    after ``patience`` seconds more than ten times what the parent's took.
    """

    data: tuple[str, ...]
    label: str | None = None
    output: str | None = None
    metric: str | None = None
    max_drop: float = 0.005
    objective: Objective = "throughput"
    calibration_rows: int | None = None
    inputs: dict[str, tuple[str, ...]] = field(default_factory=dict)
    source: Path | None = None
    budget: float = 600.0
    threads: int | None = None
    out: Path | None = None
    resume: bool = False
    seconds: float = 0.6
    rounds: int = ROUNDS
    patience: float = 60.0


def read_parent(place: Place, options: Options, on_note: Callable[[str], None]) -> tuple[Parent, HeldOut]:
    """The data as this model's inputs, and what recipes are given."""
    engine = Engine.open(place.files, options.threads)
    try:
        held_out = read_held_out(
            options.data, engine.signature, options.label, options.calibration_rows, options.inputs
        )
        calibration = _prepared(engine, held_out.calibration)
    finally:
        engine.close()
    if held_out.unusable:
        row, reason = next(iter(held_out.unusable.items()))
        on_note(f"{len(held_out.unusable)} rows are left out; row {row}: {reason}")
    return Parent(place.files, calibration, options.source), held_out


def prepare(
    place: Place,
    options: Options,
    parent: Parent,
    held_out: HeldOut,
    on_note: Callable[[str], None],
    target: Target | None = None,
) -> Trials:
    """The parent's answers on the target, the metric that judges them, and whether there are rows enough."""
    rows = held_out.rows
    longest = max(LONGEST, 10 * options.budget)
    probes = Probes(place.work / "probe", options.threads, options.seconds, longest, target)
    probes.use(rows.columns)
    started = monotonic()
    answers = probes.predict(place.path)
    probes.timeout = options.patience + 10 * (monotonic() - started + options.seconds)
    if answers.refused:
        row, reason = next(iter(answers.refused.items()))
        on_note(f"the model does not answer {len(answers.refused)} rows; row {rows.numbers[row]}: {reason}")
        rows = _without(rows, list(answers.refused))
        probes.use(rows.columns)
    chosen, output = metric.choose(answers.columns, rows.labels, options.metric, options.output)
    if len(rows) < (needed := rows_needed(chosen, options.max_drop)):
        raise InvalidInput(
            f"{len(rows)} held-out rows are too few to tell a drop of {options.max_drop:.2%} in {chosen.name}: "
            f"about {needed} are needed. Bring more rows, or allow a larger drop (--max-drop)"
        )
    judge = Judge(rows, chosen, output, answers.columns)
    rules = Gate(chosen, options.max_drop, options.objective, len(rows))
    return Trials(parent, place.path, probes, judge, rules, options.rounds)


def facts_of(place: Place, options: Options, trials: Trials, held_out: HeldOut, target: Target) -> dict[str, str]:
    """What verdicts depend on, by the name that a refusal gives it."""
    elsewhere = {"--target": target.name} if target.name != "local" else {}
    source = sha256(options.source.read_bytes()).hexdigest() if options.source else ""
    digests = {f"model file {name}": digest for name, digest in digest_files(place.files).items()}
    return {
        **digests,
        "the held-out data": held_out.fingerprint,
        "--label": held_out.label,
        "--metric": trials.judge.metric.name,
        "--output": trials.judge.output,
        "--max-drop": str(options.max_drop),
        "--objective": options.objective,
        "--calibration-rows": str(len(held_out.calibration)),
        "--threads": str(options.threads),
        "--source": source,
        **elsewhere,
    }


def _prepared(engine: Engine, rows: LabelledRows) -> list[Columns]:
    """Calibration rows as the artifact takes them, in batches; without those that preprocessing refuses."""
    batches: list[Columns] = []
    for start in range(0, len(rows), CALIBRATION_BATCH):
        batch = {name: column[start : start + CALIBRATION_BATCH] for name, column in rows.columns.items()}
        try:
            batches.append(engine.prepare(batch))
        except InvalidRows as error:
            count = len(next(iter(batch.values())))
            kept = [row for row in range(count) if row not in error.rows]
            if kept:
                batches.append(engine.prepare({name: column[kept] for name, column in batch.items()}))
    return batches


def _without(rows: LabelledRows, refused: Sequence[int]) -> LabelledRows:
    if len(refused) == len(rows):
        raise BackendFailed("the model answers none of the held-out rows; try one with `forwardpass predict`")
    chosen = [row for row in range(len(rows)) if row not in set(refused)]
    return rows.take(np.array(chosen))
