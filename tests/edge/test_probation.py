"""Who answers while a new version is watched, and what counts against it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from forwardpass.edge.probation import Probation
from forwardpass.edge.watch import Health
from forwardpass.registry import ModelLocation
from forwardpass.server.served import ServedModel, State
from forwardpass.types import Outcome

FAULTS = [Outcome.BACKEND_FAILED, Outcome.INTERNAL, Outcome.NOT_READY]


def served(version: str, state: State = State.READY) -> ServedModel:
    made = ServedModel(ModelLocation("m", version, Path("m")))
    made.state = state
    return made


class Asked:
    """Versions 1 and 2 of a model, 2 watched; a request fares with each as ``outcomes`` says, in ``seconds``."""

    def __init__(self, *outcomes: Outcome, before: State = State.READY, paired: bool = True) -> None:
        self.before, self.new = served("1", before), served("2")
        self.probation = Probation(self.new, {self.new: self.before} if paired else {}, lambda: self.now)
        self.now = 0.0
        self._outcomes = dict(zip((self.new, self.before), outcomes, strict=False))

    def by(self, who: ServedModel | None = None, seconds: float = 0.0) -> str:
        """The version that answered one request."""

        async def ask(served: ServedModel) -> tuple[Outcome, str]:
            self.now += seconds
            return self._outcomes[served], served.version

        answered, answer = asyncio.run(self.probation.ask(who or self.new, ask))
        assert answered.version == answer
        return answer

    @property
    def health(self) -> Health:
        return self.probation.health(0)


def test_what_it_answers_is_its_answer() -> None:
    asked = Asked(Outcome.OK)
    assert asked.by(seconds=2.0) == "2"
    assert asked.health == Health(1, 0, 0, 2.0)
    assert asked.probation.health(crashes=3).crashes == 3


@pytest.mark.parametrize("fault", [*FAULTS, Outcome.INVALID_INPUT, Outcome.TOO_LARGE])
def test_what_the_one_before_answers_in_its_place_is_its_error(fault: Outcome) -> None:
    asked = Asked(fault, Outcome.OK)
    assert asked.by() == "1"
    assert asked.health == Health(1, 1, 0, None)


def test_rows_that_both_refuse_are_nobodys_error() -> None:
    asked = Asked(Outcome.INVALID_INPUT, Outcome.INVALID_INPUT)
    assert asked.by() == "2"
    assert asked.health == Health()


def test_rows_that_nobody_else_can_look_at_are_given_the_benefit_of_the_doubt() -> None:
    for asked in (
        Asked(Outcome.INVALID_INPUT, Outcome.OVERLOADED),
        Asked(Outcome.INVALID_INPUT, before=State.UNAVAILABLE),
        Asked(Outcome.INVALID_INPUT, paired=False),
    ):
        assert asked.by() == "2"
        assert asked.health == Health()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_failure_counts_whatever_the_one_before_makes_of_it(fault: Outcome) -> None:
    """What failed before as well is in the share of errors that it is compared with."""
    assert Asked(fault, fault).by() == "1"
    for asked in (Asked(fault, fault), Asked(fault, before=State.UNLOADING), Asked(fault, paired=False)):
        asked.by()
        assert asked.health == Health(1, 1, 0, None)


def test_a_timeout_is_an_error_that_took_its_time() -> None:
    asked = Asked(Outcome.TIMED_OUT)
    assert asked.by(seconds=30.0) == "2"
    assert asked.health == Health(1, 1, 0, 30.0)


def test_what_it_has_no_room_for_is_answered_and_does_not_count() -> None:
    """The one before has room, for nobody asks it now: that says nothing about either."""
    asked = Asked(Outcome.OVERLOADED, Outcome.OK)
    assert asked.by() == "1"
    assert asked.health == Health()


@pytest.mark.parametrize("outcome", [Outcome.CANCELLED, Outcome.QUOTA_EXCEEDED])
def test_what_is_the_callers_doing_does_not_count(outcome: Outcome) -> None:
    asked = Asked(outcome)
    assert asked.by() == "2"
    assert asked.health == Health()


def test_only_the_watched_version_is_judged() -> None:
    asked = Asked(Outcome.OK, Outcome.OK)
    assert asked.by(asked.before) == "1"
    assert asked.health == Health()
