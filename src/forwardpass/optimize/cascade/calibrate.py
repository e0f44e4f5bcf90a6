"""``forwardpass calibrate``: where a small model should ask a large one, chosen on some rows and judged on others.

    held-out rows ─► answers of both ─► halves ─► temperature and threshold on one ─► everything measured on the other

All that is wrong with what was asked is said before anything is written. Knows no terminal and no network; whoever can
ask a model elsewhere is handed in.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

from forwardpass.engine.engine import Engine
from forwardpass.errors import BackendFailed, InvalidInput
from forwardpass.optimize.bootstrap import RESAMPLES
from forwardpass.optimize.cascade.curve import Curve, create_curve
from forwardpass.optimize.cascade.folder import require_new
from forwardpass.optimize.cascade.halves import halves
from forwardpass.optimize.cascade.measuring import measure, scaled
from forwardpass.optimize.cascade.pairing import Judged, find_confidence, judge, require_alike
from forwardpass.optimize.cascade.results import Aim, Calibration, Chosen
from forwardpass.optimize.cascade.running import Here, Member, answer
from forwardpass.optimize.cascade.temperature import fit_temperature
from forwardpass.optimize.heldout import LabelledRows, read_held_out
from forwardpass.optimize.lineage import libraries, machine
from forwardpass.pipeline.confidence import confidence
from forwardpass.registry import ModelFiles, find_model
from forwardpass.types import Array, Columns

LEAST_ROWS = 200  # a hundred to choose, a hundred to judge
LEAST_WRONG = 10  # wrong answers of the small model among the rows that choose: what a threshold is told by

Note = Callable[[str], None]
OpenRemote = Callable[[ModelFiles], Member]


@dataclass(frozen=True)
class Request:
    """What is asked for. ``answer``, ``label`` and ``confidence`` name columns; None finds them.

    ``price`` is of one escalated row, ``seconds`` are spent on timing rows, ``inputs`` maps inputs to columns;
    ``resamples`` are of each bootstrap.
    """

    small: Path
    large: Path
    data: tuple[str, ...]
    aim: Aim
    label: str | None = None
    answer: str | None = None
    confidence: str | None = None
    price: float = 0.0
    inputs: dict[str, tuple[str, ...]] = field(default_factory=dict)
    threads: int | None = None
    seconds: float = 4.0
    resamples: int = RESAMPLES
    out: Path | None = None


def calibrate(
    request: Request, on_note: Note = lambda note: None, open_remote: OpenRemote | None = None
) -> Calibration:
    """Choose and measure; writes nothing. ``open_remote`` opens a large model that lies elsewhere.

    Raises ``InvalidInput``, ``InvalidModel`` or ``NotFound`` for what was asked, ``BackendFailed`` where a model fails,
    and what is wrong with a server that is asked.
    """
    _check(request)
    small, large = find_model(request.small), find_model(request.large)
    remote = open_remote if large.config.remote is not None else None
    _require_artifact(small, "MODEL")
    if remote is None:
        _require_artifact(large, "--against")
    if small.name == large.name:
        raise InvalidInput(f"both models are called {small.name!r}; members of a cascade must have names of their own")
    with ExitStack() as stack:
        first: Member = stack.enter_context(closing(Here(Engine.open(small, request.threads))))
        opened = Here(Engine.open(large, request.threads)) if remote is None else remote(large)
        second: Member = stack.enter_context(closing(opened))
        require_alike(first.signature, second.signature)
        held_out = read_held_out(request.data, first.signature, request.label, 0, request.inputs)
        if held_out.unusable:
            row, why = next(iter(held_out.unusable.items()))
            on_note(f"{len(held_out.unusable):,} rows cannot be used and are left out; the first is row {row}: {why}")
        rows, outputs, others = _answers(held_out.rows, (first, second), (small.name, large.name), on_note)
        judged = judge(rows.labels, outputs, others, request.answer)
        name = find_confidence(outputs, request.confidence, _classes(judged))
        on_note(f"The answer is output {judged.output!r}; the confidence is output {name!r}.")
        choosing, judging = _halves(judged)
        temperature, curve, at = _choose(request.aim, judged, outputs[name], choosing)
        threshold = float(curve.thresholds[at])
        measured = measure(
            (first, second), rows.take(judging).columns, _part(judged, judging), outputs[name][judging],
            temperature, threshold, request.seconds, request.resamples,
        )  # fmt: skip
    chosen = Chosen(len(choosing), float(curve.shares[at]), float(curve.accuracies[at]))
    return Calibration(
        small=small.name,
        large=large.name,
        aim=request.aim,
        label=held_out.label,
        output=judged.output,
        outputs=judged.outputs,
        confidence=name,
        temperature=temperature,
        threshold=threshold,
        chosen=chosen,
        measured=measured,
        unusable=len(held_out.unusable) + len(held_out.rows) - len(rows),
        fingerprint=held_out.fingerprint,
        price=request.price,
        cost=scaled(measured.share, 1000 * request.price),
        elsewhere=remote is not None,
        machine=machine(),
        libraries=libraries(),
    )


def _check(request: Request) -> None:
    for name, value in (("--target-accuracy", request.aim.accuracy), ("--target-accuracy", request.aim.below),
                        ("--max-escalation", request.aim.escalated)):  # fmt: skip
        if value is not None and not 0 <= value <= 1:
            raise InvalidInput(f"{name} {100 * value:.4g} %: it must be between 0 % and 100 %")
    if not (math.isfinite(request.price) and request.price >= 0):
        raise InvalidInput(f"--price {request.price:g}: it must be a number from 0")
    if request.out is not None:
        require_new(request.out)


def _require_artifact(files: ModelFiles, what: str) -> None:
    if files.config.composed:
        kind = "it is a cascade" if files.config.cascade else "it lies elsewhere"
        raise InvalidInput(
            f"{what} {files.folder}: {kind}; give the folder of a model with an artifact, such as a copy of the one "
            "that answers for it"
        )


def _answers(
    rows: LabelledRows, members: tuple[Member, Member], names: tuple[str, str], on_note: Note
) -> tuple[LabelledRows, Columns, Columns]:
    """The rows that both models answer, and what they answer."""
    small, large = (answer(member, rows.columns, name) for member, name in zip(members, names, strict=True))
    both = small.answered & large.answered
    if not both.any():
        raise BackendFailed(f"there is no row that both models answer; {small.reason or large.reason}")
    if not both.all():
        on_note(f"{int((~both).sum())} rows are left out, which not both models answer; {small.reason or large.reason}")
    return rows.take(both), small.of(both), large.of(both)


def _halves(judged: Judged) -> tuple[Array, Array]:
    """Rows that choose and rows that judge. Raises ``InvalidInput`` where they are too few to tell anything."""
    rows = len(judged.truth)
    if rows < LEAST_ROWS:
        raise InvalidInput(f"{rows} labelled rows are too few to choose with and to judge: at least {LEAST_ROWS} "
                           "are needed, more where the small model is seldom wrong")  # fmt: skip
    choosing, judging = halves(judged.truth)
    wrong = int((judged.small[choosing] != judged.truth[choosing]).sum())
    if wrong < LEAST_WRONG:
        about = math.ceil(rows * LEAST_WRONG / max(wrong, 1))
        raise InvalidInput(
            f"the small model is wrong on {wrong} of the {len(choosing)} rows that choose, too few to tell a threshold "
            f"by: {'about' if wrong else 'more than'} {about:,} labelled rows are needed for {LEAST_WRONG} of them"
        )
    return choosing, judging


def _choose(aim: Aim, judged: Judged, probabilities: Array, rows: Array) -> tuple[float, Curve, int]:
    """Temperature, the curve of the choosing rows, and the place on it that serves the aim."""
    part = _part(judged, rows)
    small, large = part.small == part.truth, part.large == part.truth
    if large.sum() <= small.sum():
        raise InvalidInput(
            f"--against is right on {large.mean():.2%} of the rows that choose and MODEL on {small.mean():.2%}: asking "
            "gains nothing. Are they swapped, or do they number the classes differently?"
        )
    temperature = fit_temperature(probabilities[rows], small)
    curve = create_curve(confidence(probabilities[rows], temperature), small, large)
    if aim.escalated is not None:
        return temperature, curve, curve.within(aim.escalated)
    target = aim.accuracy if aim.accuracy is not None else float(large.mean()) - (aim.below or 0.0)
    return temperature, curve, curve.reaching(target)


def _part(judged: Judged, rows: Array) -> Judged:
    return Judged(judged.output, judged.truth[rows], judged.small[rows], judged.large[rows])


def _classes(judged: Judged) -> int:
    return len({*judged.truth.tolist(), *judged.small.tolist()})
