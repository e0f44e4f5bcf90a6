"""Half of all clients leave before their answer: what nobody waits for any more must not run.

Clients leave while they are queued: a batch that runs cannot be taken back, so the queue is made
long enough that whoever leaves is still in it.
"""

from __future__ import annotations

from bench.faults import numbers
from bench.faults.fault import Trial, unaccounted, unexplained, why
from bench.faults.figure import Figure
from bench.faults.numbers import right
from forwardpass.loadtest import Leave, closed, run

CALLERS = 128  # 32 batches of 4 rows
AFTER = 0.02  # seconds: a few batches, so that hardly any of those who leave is running


def measure(trial: Trial) -> list[Figure]:
    model = numbers.build(trial.work / "leave" / "numbers")
    with trial.serve(model.folder, name="leave") as server:
        target = numbers.target(server, model.name)
        run(closed(target, 4, 0.5, check=right))
        before = model.rows_run()
        leave = Leave(0.5, AFTER)
        result = run(closed(target, CALLERS, trial.lasts(60, 2.5), check=right, leave=leave))
        rows = model.rows_run() - before
    return [
        Figure("rows run for each row answered", rows / max(1, result.ok), "", 1.05,
               note=f"{rows} run, {result.ok} answered, {result.left} left after {AFTER * 1e3:g} ms; "
                    f"the others waited {result.latency.percentile(50) * 1e3:.0f} ms (median)"),
        Figure("clients that left", result.left / max(1, result.sent), "of all", 0.4, at_least=True),
        Figure("other errors", unexplained(result) + unaccounted(result), "", 0, note=why(result)),
    ]  # fmt: skip
