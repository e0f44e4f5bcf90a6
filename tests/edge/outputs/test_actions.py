"""Actions: each message of a rule goes to the one target that it names."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from forwardpass.config import ActionConfig
from forwardpass.edge.outputs import create_actions
from forwardpass.edge.prediction import Prediction
from forwardpass.errors import InvalidModel, InvalidSettings
from forwardpass.types import DType, Signature, TensorSpec

SIGNATURE = Signature((), (TensorSpec("state", DType.BYTES, (None,)),), True)


def test_messages_go_to_their_targets_and_one_target_is_opened_once(tmp_path: Path) -> None:
    fault = ActionConfig(output="state", equals="fault", file="faults.jsonl")
    watch = ActionConfig(output="state", equals="watch", file="faults.jsonl")
    rare = ActionConfig(output="state", equals="fault", times=2, file="rare.jsonl")

    async def run() -> list[int]:
        actions = create_actions([fault, watch, rare], SIGNATURE, {}, tmp_path)
        assert [output.name for output in actions.outputs] == ["file:faults.jsonl", "file:rare.jsonl"]
        said = [["fault"], ["watch"], ["fault"], ["fault"], ["fine"]]
        counts = [await actions.act(Prediction("i", "http", 0.0, "m", "1", [], answers)) for answers in said]
        await actions.close()
        return counts

    assert asyncio.run(run()) == [1, 1, 1, 2, 0]
    states = [json.loads(line)["prediction"] for line in (tmp_path / "faults.jsonl").read_text().splitlines()]
    assert states == ["fault", "watch", "fault", "fault"]
    assert len((tmp_path / "rare.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("action", "broker", "error", "message"),
    [
        ({"output": "stat", "equals": "x", "file": "f"}, {}, InvalidModel, "Did you mean 'state'"),
        ({"output": "state", "equals": "x", "publish": "t"}, {}, InvalidModel, "needs a broker"),
        ({"output": "state", "equals": "x", "publish": "t"}, {"ur": "x"}, InvalidSettings, "Did you mean 'url'"),
        ({"output": "state", "equals": "x", "webhook": "x"}, {}, InvalidSettings, "url must begin with"),
    ],
)
def test_what_cannot_be_done_is_refused_at_load(
    action: dict[str, Any], broker: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        create_actions([ActionConfig(**action)], SIGNATURE, broker)
