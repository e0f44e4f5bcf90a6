"""What a model's rules have done: each action's message to the one target that it names.

A prediction is judged by the rules of the version that gave it, also while the next one is watched and may be taken
back. A target that several versions name is one output, with all that waits for it. Knows no model.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forwardpass.config import ActionConfig
from forwardpass.edge.outputs.base import Output
from forwardpass.edge.outputs.create import create_output
from forwardpass.edge.prediction import Prediction
from forwardpass.edge.rules import Rules, check_actions
from forwardpass.errors import InvalidSettings
from forwardpass.types import Signature

FLUSH = 5.0  # seconds that an output has for what waits, once nothing more comes
KEPT = 2  # versions: the one that answers, and the one before
MOST_ENDED = 20  # outputs that are shown when no version uses them any more
Target = tuple[Any, ...]


@dataclass(frozen=True)
class _Begun:
    """What was made of the actions of one version."""

    actions: tuple[ActionConfig, ...]
    rules: Rules
    outputs: dict[Target, Output]


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
        self._begun: dict[str, _Begun] = {}  # by version, the latest last
        self._ended: deque[Output] = deque(maxlen=MOST_ENDED)
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def outputs(self) -> list[Output]:
        """For status: those of the latest version; then others that have messages yet, or lost some."""
        latest = list(list(self._begun.values())[-1].outputs.values()) if self._begun else []
        others = [*(output for output in self._used().values() if output not in latest), *self._ended]
        return [*latest, *(output for output in others if output.waiting or output.counts["dropped"])]

    def check(self, actions: Sequence[ActionConfig], signature: Signature) -> None:
        """Whether a version's actions could be begun. Raises as ``begin``."""
        self._targets(actions, signature)

    def begin(self, version: str, actions: Sequence[ActionConfig], signature: Signature) -> None:
        """A version answers from here on; what it and the one before it name as targets goes on.

        Raises ``InvalidModel`` for an action that makes no sense, ``InvalidSettings`` for a target that cannot be
        used; then all is as before.
        """
        outputs, before = self._targets(actions, signature), self._used()
        begun = self._begun.pop(version, None)
        if begun is None or begun.actions != tuple(actions):  # else it answers again, and counts on
            begun = _Begun(tuple(actions), Rules(actions, self._clock), outputs)
        self._begun[version] = begun
        for oldest in list(self._begun)[:-KEPT]:
            del self._begun[oldest]
        used = self._used()
        for target, output in before.items():
            if target not in used:
                self._let_go(output)

    async def act(self, prediction: Prediction) -> int:
        """Send what is due; returns at once, with how many messages that were."""
        begun = self._begun.get(prediction.version)
        if begun is None:
            return 0
        due = begun.rules.due(prediction)
        for action, message in due:
            await begun.outputs[_target(action)].send(message)
        return len(due)

    async def close(self) -> None:
        await asyncio.gather(*self._ending, *(output.close(self._flush) for output in self._used().values()))

    def _used(self) -> dict[Target, Output]:
        return {target: output for begun in self._begun.values() for target, output in begun.outputs.items()}

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
        used, targets = self._used(), dict[Target, Output]()
        for number, action in enumerate(actions):
            target = _target(action)
            if target not in targets:
                entry = _entry(action, number, self._broker)
                targets[target] = used.get(target) or create_output(entry, self._home)
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
        raise InvalidSettings(
            f"actions[{number}]: publish: {action.publish!r} needs a broker; say its `url` under `mqtt:` in agent.yaml"
        )
    return {**broker, "type": "mqtt", "topic": action.publish}
