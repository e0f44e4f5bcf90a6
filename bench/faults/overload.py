"""More requests than there is capacity: 2 and 5 times as many, at a planned rate, whoever is refused.

Capacity is what a closed loop gets of the same server, before and after. All who are admitted must
be answered in time, all others refused at once.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from bench.faults import numbers
from bench.faults.fault import Trial, unaccounted, unexplained, why
from bench.faults.figure import Figure
from bench.faults.numbers import right
from bench.faults.watch import Watch
from bench.processes import Server
from forwardpass.loadtest import HttpTarget, Result, closed, opened, run

LOOPS, ROWS = 40, 2  # some 20 ms for a batch: refusals cost the core that the model runs on little beside that
DEADLINE = 0.5  # seconds: the model's timeout, well over the time of one batch
CALLERS = 8  # of the closed loop: four batches' worth
REFUSAL = 0.02  # seconds
LATE = "status 504"  # admitted, and not answered in time


def measure(trial: Trial) -> list[Figure]:
    model = numbers.build(trial.work / "overload" / "numbers", loops=LOOPS, most_rows=ROWS, timeout=DEADLINE)
    with trial.serve(model.folder, name="overload") as server:
        capacity(trial, numbers.target(server, model.name))  # the first batches teach what a batch costs
        factors = (5,) if trial.quick else (2, 5)
        return [figure for factor in factors for figure in _at(trial, server, model.name, factor)]


def capacity(trial: Trial, target: HttpTarget) -> float:
    """Good answers per second of a closed loop."""
    return run(closed(target, CALLERS, 0.8 if trial.quick else 8.0, check=right)).rate


def admitted_p99(result: Result) -> float:
    """Seconds that 99 % of the admitted did not exceed; infinite where more than 1 % had no answer in time."""
    late = result.errors[LATE]
    wanted = 0.99 * (result.ok + late)
    return result.latency.percentile(100 * wanted / result.ok) if 0 < wanted <= result.ok else float("inf")


def _at(trial: Trial, server: Server, name: str, factor: int) -> list[Figure]:
    target = numbers.target(server, name)
    before = capacity(trial, target)
    seconds = trial.lasts(120, 2)
    with Watch(server.pid) as watch:
        result = run(opened(target, factor * before, seconds, check=right, most_connections=4000))
    most = (before + capacity(trial, target)) / 2
    figure = partial(Figure, note=f"{result.sent} sent, {result.ok} answered, {result.refused.count} refused")
    stated = result.statuses[503] - result.retry_after.count + result.statuses[429]
    sent = result.late.percentile(99) * 1e3
    figures = [
        figure("goodput", result.rate / most, "of the maximum", 0.95, at_least=True, timing=True,
               note=f"{result.rate:.0f}/s of {most:.0f}/s, offered {factor * before:.0f}/s"),
        figure("slowest refusal", result.refused.max * 1e3, "ms", REFUSAL * 1e3, timing=True,
               note=f"p99 {result.refused.percentile(99) * 1e3:.2f} ms; the client sent late by {sent:.2f} ms (p99)"),
        figure("refusals that are not 503 with Retry-After", stated, "", 0),
        figure("p99 of the admitted", admitted_p99(result) / DEADLINE, "of the deadline", 1, timing=True,
               note=f"deadline {DEADLINE:g} s; {result.errors[LATE]} of {result.ok + result.errors[LATE]} too late"),
        figure("other errors", unexplained(result, LATE) + unaccounted(result), "", 0, note=why(result)),
        *growth(watch, trial),
    ]  # fmt: skip
    return [replace(item, what=f"{factor} x capacity: {item.what}") for item in figures]


def growth(watch: Watch, trial: Trial) -> list[Figure]:
    """Memory of the last third against the first, by process."""
    bound = 1.25 if trial.quick else 1.02
    return [
        Figure(f"memory of the {series.role}", series.growth(), "of the first third", bound,
               note=f"{series.bytes[-1] / 1e6:.1f} MB at the end")
        for series in watch.lived() if series.role != "template"
    ]  # fmt: skip
