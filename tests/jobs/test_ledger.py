"""The ledger: parts are given once, come back when they fail, and one process has it at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from forwardpass.errors import InvalidInput
from forwardpass.jobs.formats.base import Piece
from forwardpass.jobs.ledger import Ledger, Part, PartResult, State

PARTS = [Part(number, (Piece("a.csv", 10 * number, 10 * number + 10, 5, 6),)) for number in range(3)]
RESULT = PartResult(10, 8, 1, 1, "d", 100, 0.5, 0.25)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path / "out.job" / "ledger.sqlite")
    ledger.plan({"model": "x"}, PARTS)
    yield ledger
    ledger.close()


def test_each_part_is_given_once_and_in_order(ledger: Ledger) -> None:
    assert [ledger.lease("w", 60) for _ in range(4)] == [*PARTS, None]


def test_what_is_committed_stays(ledger: Ledger) -> None:
    ledger.lease("w", 60)
    ledger.commit(0, RESULT)
    ledger.lease("w", 60)
    ledger.recover()
    assert list(ledger.done()) == [(0, RESULT)]
    assert ledger.lease("w", 60) == PARTS[1]
    assert ledger.count() == {State.DONE: (1, 10), State.LEASED: (1, 10), State.WAITING: (1, 10)}


def test_a_part_that_fails_waits_again_behind_the_others_and_is_set_aside_at_last(ledger: Ledger) -> None:
    given = []
    while (part := ledger.lease("w", 60)) is not None:
        given.append(part.number)
        if part.number == 1:
            ledger.fail(1, "broken", attempts=3)
        else:
            ledger.commit(part.number, RESULT)
    assert given == [0, 1, 2, 1, 1]
    assert ledger.failed() == [(1, "broken", 10)]


def test_a_new_run_tries_what_had_failed(ledger: Ledger) -> None:
    ledger.lease("w", 60)
    assert ledger.fail(0, "broken", attempts=1)
    ledger.recover()
    assert ledger.lease("w", 60) == PARTS[0]


def test_a_part_whose_file_is_gone_is_done_again(ledger: Ledger) -> None:
    ledger.lease("w", 60)
    ledger.commit(0, RESULT)
    ledger.reopen(0)
    assert list(ledger.done()) == []
    assert ledger.lease("w", 60) == PARTS[0]


def test_only_one_process_has_it(ledger: Ledger, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="another run works on this output"):
        Ledger(ledger.path)
    ledger.close()
    again = Ledger(ledger.path)
    assert (again.facts(), again.parts()) == ({"model": "x"}, 3)
    again.close()
