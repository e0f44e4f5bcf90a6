"""Rules: against a plain reference for any sequence, and each word of an action that makes no sense."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwardpass.config import ActionConfig
from forwardpass.edge.prediction import Prediction
from forwardpass.edge.rules import Rules, check_actions, holds
from forwardpass.errors import InvalidModel
from forwardpass.types import DType, Signature, TensorSpec

SIGNATURE = Signature(
    (),
    (
        TensorSpec("state", DType.BYTES, (None,)),
        TensorSpec("hours", DType.FP32, (None,)),
        TensorSpec("flag", DType.BOOL, (None,)),
        TensorSpec("probabilities", DType.FP32, (None, 3)),
    ),
    True,
)


def prediction(answers: list[Any], source: str = "mqtt:motors/1", **more: Any) -> Prediction:
    return Prediction("id", source, 1.5, "m", "3", [], answers, **more)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


states = st.sampled_from(["fault", "watch", None])
events = st.tuples(
    st.sampled_from(["mqtt:a", "mqtt:b", "folder:c#1", "folder:c#2"]),
    st.lists(st.fixed_dictionaries({"state": states, "hours": st.floats(0, 3) | st.none()}), max_size=4),
    st.floats(0, 5),
    st.booleans(),
)
rules = st.builds(
    ActionConfig,
    output=st.just("state"),
    equals=st.just("fault") | st.none(),
    above=st.just(1.0) | st.none(),
    of=st.just("hours"),
    times=st.integers(1, 3),
    every=st.sampled_from([0.0, 2.0, 7.0]),
    publish=st.just("t"),
).filter(lambda action: action.equals is not None or action.above is not None)


@settings(deadline=None, max_examples=60)
@given(st.lists(rules, min_size=1, max_size=3), st.lists(events, max_size=25))
def test_what_is_due_is_what_the_words_of_the_action_say(actions: list[ActionConfig], history: list[Any]) -> None:
    clock = Clock()
    watched = Rules(actions, clock)
    rows: list[tuple[str, dict[str, Any]]] = []  # all that were answered, in order
    acted: list[tuple[int, str, float]] = []
    for source, answers, later, failed in history:
        clock.now += later
        wanted = []
        for row, answer in enumerate([] if failed else answers):
            rows.append((source.split("#")[0], answer))
            for number, action in enumerate(actions):
                same = [answer for at, answer in rows if at == rows[-1][0]][-action.times :]
                long_enough = len(same) == action.times and all(plainly_holds(action, one) for one in same)
                before = [when for at, where, when in acted if (at, where) == (number, rows[-1][0])]
                if long_enough and (not before or clock.now - before[-1] >= action.every):
                    acted.append((number, rows[-1][0], clock.now))
                    wanted.append((action, row))
        due = watched.due(prediction(answers, source, error="it failed" if failed else None))
        assert [(action, message["row"]) for action, message in due] == wanted


def plainly_holds(action: ActionConfig, answer: dict[str, Any]) -> bool:
    if action.equals is not None and answer["state"] != action.equals:
        return False
    return action.above is None or (answer["hours"] is not None and answer["hours"] > action.above)


def test_the_message_says_what_was_predicted_and_why_it_is_sent() -> None:
    action = ActionConfig(output="state", equals="fault", times=2, publish="alarms")
    watched = Rules([action], Clock())
    answer = {"state": "fault", "hours": 2.0}
    [(_, message)] = watched.due(prediction([answer, answer], confidence=0.75, provisional=True))
    assert message == {
        "id": "id", "source": "mqtt:motors/1", "at": 1.5, "model": "m", "version": "3", "provisional": True,
        "confidence": 0.75, "row": 1, "prediction": answer,
        "rule": {"output": "state", "equals": "fault", "times": 2},
    }  # fmt: skip


def test_the_bare_value_of_a_single_output_is_looked_at() -> None:
    action = ActionConfig(output="state", equals="fault", publish="alarms")
    assert [message["prediction"] for _, message in Rules([action]).due(prediction(["fine", "fault"]))] == ["fault"]


@pytest.mark.parametrize(
    ("wanted", "value", "held"),
    [(True, True, True), (True, 1, False), (1.0, True, False), (1.0, 1, True), ("1", 1, False), ("a", ["a"], False)],
)
def test_equal_means_of_one_kind(wanted: Any, value: Any, held: bool) -> None:
    assert holds(ActionConfig(output="x", equals=wanted), {"x": value}) is held


@pytest.mark.parametrize("value", [None, float("nan"), "9", True, [9], 0.5])
def test_only_a_larger_number_is_above(value: Any) -> None:
    assert not holds(ActionConfig(output="x", above=0.5), {"x": value})
    assert holds(ActionConfig(output="x", above=0.5), {"x": 0.6})


def test_sources_that_were_not_seen_for_longest_are_forgotten() -> None:
    action = ActionConfig(output="state", equals="fault", every=100.0, publish="alarms")
    watched = Rules([action], Clock(), most_sources=2)
    fault = [{"state": "fault"}]
    assert [len(watched.due(prediction(fault, source))) for source in "ababcb"] == [1, 1, 0, 0, 1, 0]
    assert len(watched.due(prediction(fault, "a"))) == 1


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (
            {"output": "stat", "equals": "fault", "file": "f"},
            r"actions\[1\]: unknown output 'stat'. Did you mean 'state'",
        ),
        ({"output": "state", "above": 1.0, "of": "hour", "file": "f"}, "unknown output 'hour'. Did you mean 'hours'"),
        ({"output": "state", "equals": "fault"}, "exactly one of publish, webhook, file, command, got none"),
        ({"output": "state", "equals": "x", "file": "f", "publish": "t"}, "got publish and file"),
        ({"output": "state", "file": "f"}, "say when to act"),
        ({"output": "state", "equals": "fault", "of": "hours", "file": "f"}, "give above as well"),
        ({"output": "state", "equals": "fault", "times": 0, "file": "f"}, "times must be at least 1"),
        ({"output": "state", "equals": "fault", "every": -1.0, "file": "f"}, "every at least 0"),
        ({"output": "hours", "above": float("nan"), "file": "f"}, "above must be a number"),
        ({"output": "probabilities", "above": 0.5, "file": "f"}, "more than one value in a row"),
        ({"output": "hours", "equals": "fault", "file": "f"}, "holds numbers, never 'fault'"),
        ({"output": "state", "equals": 3.0, "file": "f"}, "holds texts, never 3.0"),
        ({"output": "flag", "equals": 1.0, "file": "f"}, "holds true or false, never 1.0"),
        ({"output": "state", "above": 0.5, "file": "f"}, "holds texts; above needs numbers"),
    ],
)
def test_an_action_that_makes_no_sense_is_refused_at_load(action: dict[str, Any], message: str) -> None:
    fine = ActionConfig(output="state", equals="fault", above=2.0, of="hours", times=3, every=60.0, publish="alarms")
    check_actions([fine], SIGNATURE)
    with pytest.raises(InvalidModel, match=message):
        check_actions([fine, ActionConfig(**action)], SIGNATURE)
