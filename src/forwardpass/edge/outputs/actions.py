"""What a model's rules have done: each action's message to the one target that it names.

The rules are those of the version that answers, and change with it. A target that the next version names too is
the same output as before, with all that waits for it. Knows no model.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
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

FLUSH = 5.0  # seconds that an output has for what waits, once nothing more comes
MOST_ENDED = 20  # outputs that are shown when no version uses them any more
Target = tuple[Any, ...]


class Actions:
    """Of one agent. ``broker`` says where ``publish`` goes (``mqtt:`` of ``agent.yaml``: ``url``, ``username`` …),
    files are relative to ``home``, ``flush`` is in seconds, ``clock`` gives seconds that only grow.
    """

    def __init__(
        self,
        broker: Mapping[str, Any],
        home: Path | None = None,
        flush: float = FLUSH,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._broker = broker
        self._home = home
        self._flush = flush
        self._clock = clock
        self._rules = Rules((), clock)
        self._outputs: dict[Target, Output] = {}
        self._ended: deque[Output] = deque(maxlen=MOST_ENDED)
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def outputs(self) -> list[Output]:
        """For status: each target once; then those not used any more that have messages yet, or lost some."""
        return [*self._outputs.values(), *(gone for gone in self._ended if gone.waiting or gone.counts["dropped"])]

    def check(self, actions: Sequence[ActionConfig], signature: Signature) -> None:
        """Whether a version's actions could be begun. Raises as ``begin``."""
        self._targets(actions, signature)

    def begin(self, actions: Sequence[ActionConfig], signature: Signature) -> None:
        """From here on these of another version, counted anew; what waits for targets of both is kept.

        Raises ``InvalidModel`` for an action that makes no sense, ``InvalidSettings`` for a target that cannot be
        used; then all is as before.
        """
        before, self._outputs = self._outputs, self._targets(actions, signature)
        self._rules = Rules(actions, self._clock)
        for target, output in before.items():
            if target not in self._outputs:
                self._let_go(output)

    async def act(self, prediction: Prediction) -> int:
        """Send what is due; returns at once, with how many messages that were."""
        due = self._rules.due(prediction)
        for action, message in due:
            await self._outputs[_target(action)].send(message)
        return len(due)

    async def close(self) -> None:
        await asyncio.gather(*self._ending, *(output.close(self._flush) for output in self._outputs.values()))

    def _let_go(self, output: Output) -> None:
        self._ended.append(output)
        task = asyncio.ensure_future(self._end(output))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _end(self, output: Output) -> None:
        await output.close(self._flush)
        output.problem = ""  # nothing keeps it from working: it has nothing to do

    def _targets(self, actions: Sequence[ActionConfig], signature: Signature) -> dict[Target, Output]:
        """An output for each target; those that there are already are the same."""
        check_actions(actions, signature)
        targets: dict[Target, Output] = {}
        for number, action in enumerate(actions):
            target = _target(action)
            if target not in targets:
                entry = _entry(action, number, self._broker)
                targets[target] = self._outputs.get(target) or create_output(entry, self._home)
        return targets


def _target(action: ActionConfig) -> Target:
    """What tells that two actions have the same one."""
    return action.publish, action.webhook, action.file, action.command


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
