"""A batch run so that one bad row fails only its own request.

A batch that cannot run as a whole is run again without the bad rows or, where nobody can say which
they are, in halves. Knows no process and no message.
"""

from __future__ import annotations

import logging
from itertools import accumulate

import numpy as np

from forwardpass.engine.engine import Engine
from forwardpass.engine.messages import require_sendable
from forwardpass.errors import BackendFailed, ForwardpassError, InvalidInput, InvalidRows
from forwardpass.types import Columns, StageTimes

log = logging.getLogger(__name__)


def run_batch(
    engine: Engine, columns: Columns, rows: list[int]
) -> tuple[Columns, dict[int, ForwardpassError], StageTimes]:
    """Answers of the requests that can be answered, stacked in order, and the errors of the others.

    ``rows`` are the row counts of the requests whose rows ``columns`` holds.
    """
    failures: dict[int, ForwardpassError] = {}
    indices = list(range(len(rows)))
    while indices:
        try:
            outputs, times = _attempt(engine, columns)
            return outputs, failures, times
        except InvalidRows as error:
            bad = _by_request(error, [rows[i] for i in indices])
            if not bad:
                return _in_halves(engine, columns, rows, indices, failures)
            failures.update({indices[i]: part for i, part in bad.items()})
            if len(bad) == len(indices):
                break
            columns, indices = _without(columns, rows, indices, set(bad))
        except ForwardpassError as error:
            if len(indices) > 1:
                return _in_halves(engine, columns, rows, indices, failures)
            failures[indices[0]] = error
            indices = []
    return {}, failures, StageTimes(0.0, 0.0, 0.0)


def _attempt(engine: Engine, columns: Columns) -> tuple[Columns, StageTimes]:
    try:
        outputs, times = engine.run(columns)
        for name, array in outputs.items():
            require_sendable(name, array)
        return outputs, times
    except ForwardpassError:
        raise
    except Exception as error:  # the batch loop: whatever a library raises, every request gets an answer
        log.exception("a batch of %s failed", engine.name)
        raise BackendFailed(f"the model failed: {type(error).__name__}: {error}") from error


def _in_halves(
    engine: Engine, columns: Columns, rows: list[int], indices: list[int], failures: dict[int, ForwardpassError]
) -> tuple[Columns, dict[int, ForwardpassError], StageTimes]:
    """Each half by itself, and so on, until what cannot be run is alone."""
    answers: list[Columns] = []
    spent = StageTimes(0.0, 0.0, 0.0)
    start = 0
    middle = (len(indices) + 1) // 2
    for half in (indices[:middle], indices[middle:]):
        stop = start + sum(rows[index] for index in half)
        own = {name: array[start:stop] for name, array in columns.items()}
        outputs, failed, times = run_batch(engine, own, [rows[index] for index in half])
        spent = _sum(spent, times)
        failures.update({half[place]: error for place, error in failed.items()})
        if len(failed) < len(half):
            answers.append(outputs)
        start = stop
    stacked = {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]} if answers else {}
    return stacked, failures, spent


def _by_request(error: InvalidRows, rows: list[int]) -> dict[int, ForwardpassError]:
    """The error of each request that holds a bad row, its rows counted from its own first.

    Empty where a row was named that is not there, so that nobody can say whose it is.
    """
    if len(rows) == 1 and (rows[0] != 1 or error.rows.keys() != {0}):
        return {0: error}
    if not all(0 <= row < sum(rows) for row in error.rows):
        return {}
    ends = list(accumulate(rows))
    parts: dict[int, dict[int, str]] = {}
    for row, text in error.rows.items():
        index = int(np.searchsorted(ends, row, side="right"))
        parts.setdefault(index, {})[row - (ends[index] - rows[index])] = text
    own: dict[int, ForwardpassError] = {}
    for index, bad in parts.items():
        own[index] = InvalidInput(bad[0]) if rows[index] == 1 else InvalidRows(bad)
        own[index].step = error.step
    return own


def _without(columns: Columns, rows: list[int], indices: list[int], bad: set[int]) -> tuple[Columns, list[int]]:
    keep = np.concatenate([np.full(rows[index], place not in bad) for place, index in enumerate(indices)])
    left = [index for place, index in enumerate(indices) if place not in bad]
    return {name: array[keep] for name, array in columns.items()}, left


def _sum(a: StageTimes, b: StageTimes) -> StageTimes:
    return StageTimes(a.preprocess + b.preprocess, a.forward + b.forward, a.postprocess + b.postprocess)
