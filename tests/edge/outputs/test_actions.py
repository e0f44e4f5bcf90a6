"""Actions: each message of a rule goes to the one target that it names, whichever version runs when it arrives."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.edge.mosquitto import LIMIT, free_port, until
from tests.edge.outputs.hook import hook

from forwardpass.config import ActionConfig
from forwardpass.edge.outputs import Actions
from forwardpass.edge.prediction import Prediction
from forwardpass.errors import InvalidModel, InvalidSettings
from forwardpass.types import DType, Signature, TensorSpec

SIGNATURE = Signature((), (TensorSpec("state", DType.BYTES, (None,)),), True)
FAULT = Prediction("i", "http", 0.0, "m", "1", [], ["fault"])


def test_messages_go_to_their_targets_and_one_target_is_opened_once(tmp_path: Path) -> None:
    fault = ActionConfig(output="state", equals="fault", file="faults.jsonl")
    watch = ActionConfig(output="state", equals="watch", file="faults.jsonl")
    rare = ActionConfig(output="state", equals="fault", times=2, file="rare.jsonl")

    async def test() -> list[int]:
        actions = Actions({}, tmp_path)
        actions.begin("1", [fault, watch, rare], SIGNATURE)
        assert [output.name for output in actions.outputs] == ["file:faults.jsonl", "file:rare.jsonl"]
        said = [["fault"], ["watch"], ["fault"], ["fault"], ["fine"]]
        counts = [await actions.act(Prediction("i", "http", 0.0, "m", "1", [], answers)) for answers in said]
        await actions.close()
        return counts

    assert asyncio.run(test()) == [1, 1, 1, 2, 0]
    states = [json.loads(line)["prediction"] for line in (tmp_path / "faults.jsonl").read_text().splitlines()]
    assert states == ["fault", "watch", "fault", "fault"]
    assert len((tmp_path / "rare.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("action", "broker", "error", "message"),
    [
        ({"output": "stat", "equals": "x", "file": "f"}, {}, InvalidModel, "Did you mean 'state'"),
        ({"output": "state", "equals": "x", "publish": "t"}, {}, InvalidSettings, "needs a broker"),
        ({"output": "state", "equals": "x", "publish": "t"}, {"ur": "x"}, InvalidSettings, "Did you mean 'url'"),
        ({"output": "state", "equals": "x", "webhook": "x"}, {}, InvalidSettings, "url must be like"),
    ],
)
def test_what_cannot_be_done_is_refused_at_load(
    action: dict[str, Any], broker: dict[str, Any], error: type[Exception], message: str
) -> None:
    for refuse in (Actions(broker).check, partial(Actions(broker).begin, "1")):
        with pytest.raises(error, match=message):
            refuse([ActionConfig(**action)], SIGNATURE)


# From one version to the next


def run(test: Awaitable[None]) -> None:
    asyncio.run(asyncio.wait_for(test, 2 * LIMIT))


def alarm(port: int, **more: Any) -> ActionConfig:
    return ActionConfig(output="state", equals="fault", webhook=f"http://127.0.0.1:{port}/alarm", **more)


async def waiting(port: int, flush: float) -> Actions:
    """Of a version with an alarm that waits for its target, at which nobody listens yet."""
    actions = Actions({}, flush=flush)
    actions.begin("1", [alarm(port)], SIGNATURE)
    assert await actions.act(FAULT) == 1
    await until(lambda: bool(actions.outputs[0].problem))
    return actions


def told(actions: Actions) -> list[tuple[str, int, dict[str, int]]]:
    return [(output.name, output.waiting, output.counts) for output in actions.outputs]


@pytest.mark.parametrize("names_it", [True, False])
def test_what_waits_for_a_target_is_delivered_in_order_after_a_version_that_is_taken_back(names_it: bool) -> None:
    async def test() -> None:
        port, taken = free_port(), list[bytes]()
        actions = await waiting(port, flush=0.0)
        actions.begin("2", [alarm(port, times=2)] if names_it else [], SIGNATURE)
        actions.begin("1", [alarm(port)], SIGNATURE)  # taken back
        assert told(actions) == [(f"webhook:127.0.0.1:{port}", 1, {"sent": 0, "failed": 0, "dropped": 0})]
        await actions.act(replace(FAULT, id="later"))
        async with await hook([200, 200], taken, port):
            await until(lambda: actions.outputs[0].counts["sent"] == 2)
        assert [b"later" in message for message in taken] == [False, True]
        await actions.close()

    run(test())


def test_a_prediction_is_judged_by_the_rules_of_the_version_that_gave_it(tmp_path: Path) -> None:
    fault, second = (ActionConfig(output="state", equals="fault", times=times, file="f") for times in (1, 2))

    async def test() -> list[int]:
        actions = Actions({}, tmp_path)
        given = [FAULT, replace(FAULT, version="2")]
        actions.begin("1", [second], SIGNATURE)
        acted = [await actions.act(prediction) for prediction in given]  # the first of two in a row, and nobody's
        actions.begin("2", [fault], SIGNATURE)
        acted += [await actions.act(prediction) for prediction in given]
        actions.begin("2", [], SIGNATURE)  # the same number, made anew
        acted += [await actions.act(prediction) for prediction in given]
        await actions.close()
        return acted

    assert asyncio.run(test()) == [0, 0, 1, 1, 1, 0]


def test_what_waits_for_one_that_no_version_kept_names_has_a_while_to_be_delivered() -> None:
    async def test() -> None:
        port, taken = free_port(), list[bytes]()
        actions = await waiting(port, flush=LIMIT)
        for version in ("2", "3"):
            actions.begin(version, [], SIGNATURE)
        assert await actions.act(FAULT) == 0
        assert [output.waiting for output in actions.outputs] == [1]
        async with await hook([200], taken, port):
            await until(lambda: not actions.outputs)
        assert len(taken) == 1
        await actions.close()

    run(test())


def test_what_is_lost_then_is_counted_and_told(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        port = free_port()
        actions = await waiting(port, flush=0.0)
        for version in ("2", "3"):
            actions.begin(version, [alarm(port + 1)], SIGNATURE)
        await until(lambda: not actions.outputs[1].waiting)
        lost = (f"webhook:127.0.0.1:{port}", 0, {"sent": 0, "failed": 0, "dropped": 1})
        assert told(actions)[1] == lost
        assert f"output {lost[0]} ends: 1 undelivered" in caplog.text
        await actions.close()
        assert actions.outputs[1].problem == ""

    run(test())


def test_a_version_that_cannot_be_begun_changes_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        actions = Actions({}, tmp_path)
        actions.begin("1", [ActionConfig(output="state", equals="fault", file="a")], SIGNATURE)
        with pytest.raises(InvalidModel):
            actions.begin("2", [ActionConfig(output="other", equals="fault", file="b")], SIGNATURE)
        assert [output.name for output in actions.outputs] == ["file:a"]
        assert await actions.act(FAULT) == 1
        await actions.close()

    run(test())
