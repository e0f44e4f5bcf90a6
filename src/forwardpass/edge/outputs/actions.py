"""What a model's rules have done: each action's message to the one target that it names.

Made anew for every version, since its ``actions:`` may differ. Knows no model.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from forwardpass.config import ActionConfig
from forwardpass.edge.outputs.base import Output
from forwardpass.edge.outputs.create import create_output
from forwardpass.edge.prediction import Prediction
from forwardpass.edge.rules import Rules, check_actions
from forwardpass.errors import InvalidModel
from forwardpass.types import Signature


class Actions:
    """``outputs`` holds one output for each target that the actions name."""

    def __init__(self, rules: Rules, outputs: Mapping[ActionConfig, Output]) -> None:
        self._rules = rules
        self._by_action = dict(outputs)

    @property
    def outputs(self) -> list[Output]:
        """For status: each target once."""
        return list({id(output): output for output in self._by_action.values()}.values())

    async def act(self, prediction: Prediction) -> int:
        """Send what is due; returns at once, with how many messages that were."""
        due = self._rules.due(prediction)
        for action, message in due:
            await self._by_action[action].send(message)
        return len(due)

    async def close(self, within: float = 5.0) -> None:
        await asyncio.gather(*(output.close(within) for output in self.outputs))


def create_actions(
    actions: Sequence[ActionConfig],
    signature: Signature,
    broker: Mapping[str, Any],
    home: Path | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Actions:
    """The actions of one version, checked against what it answers.

    ``broker`` says where ``publish`` goes (``mqtt:`` of ``agent.yaml``: ``url``, ``username`` …), files are
    relative to ``home``. Raises ``InvalidModel`` for an action that makes no sense, ``InvalidSettings``
    for a target that cannot be used.
    """
    check_actions(actions, signature)
    targets: dict[tuple[Any, ...], Output] = {}
    outputs = {}
    for number, action in enumerate(actions):
        key = (action.publish, action.webhook, action.file, action.command)
        if key not in targets:
            targets[key] = create_output(_entry(action, number, broker), home)
        outputs[action] = targets[key]
    return Actions(Rules(actions, clock), outputs)


def _entry(action: ActionConfig, number: int, broker: Mapping[str, Any]) -> dict[str, Any]:
    """The target as an entry of ``outputs:``."""
    if action.webhook is not None:
        return {"type": "webhook", "url": action.webhook}
    if action.file is not None:
        return {"type": "file", "path": action.file}
    if action.command:
        return {"type": "command", "command": list(action.command)}
    if not broker:
        raise InvalidModel(
            f"actions[{number}]: publish: {action.publish!r} needs a broker; say its `url` under `mqtt:` in agent.yaml"
        )
    return {**broker, "type": "mqtt", "topic": action.publish}
