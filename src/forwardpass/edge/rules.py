"""When a device acts: the ``actions:`` of ``model.yaml`` against the answers, row by row.

An action holds for a row where its output is ``equals``, or ``of`` is ``above``, or both where both are
given. It is due when it has held for ``times`` rows of one source in a row (and for each further row
while it holds), at most once per ``every`` seconds and source. A prediction that failed has no rows
and breaks no row. What stands behind ``#`` in a source is one item of it, and counts to it.
Knows no outputs: who acts is told what to say.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from forwardpass.config import ActionConfig
from forwardpass.edge.message import head_of
from forwardpass.edge.prediction import Prediction
from forwardpass.errors import InvalidModel, nearest
from forwardpass.types import DType, Signature

MOST_SOURCES = 10_000  # that are remembered; of more, those not seen for longest are forgotten
TARGETS = ("publish", "webhook", "file", "command")


class Rules:
    """What is due, by what came before. ``clock`` gives seconds that only grow."""

    def __init__(
        self,
        actions: Sequence[ActionConfig],
        clock: Callable[[], float] = time.monotonic,
        most_sources: int = MOST_SOURCES,
    ) -> None:
        self._actions = tuple(actions)
        self._clock = clock
        self._most_sources = most_sources
        self._sources: OrderedDict[str, list[_Run]] = OrderedDict()

    def due(self, prediction: Prediction) -> list[tuple[ActionConfig, dict[str, Any]]]:
        """Actions to take now, each with its message, in the order of the rows and then of the actions."""
        if not self._actions or prediction.error is not None:
            return []
        now, runs = self._clock(), self._runs(prediction.source)
        return [
            (action, _message(prediction, row, action))
            for row, answer in enumerate(prediction.answers)
            for action, run in zip(self._actions, runs, strict=True)
            if run.step(action, holds(action, answer), now)
        ]

    def _runs(self, source: str) -> list[_Run]:
        """Where each action stands for the source that this item is of."""
        key = source.partition("#")[0]
        runs = self._sources.pop(key, None) or [_Run() for _ in self._actions]
        self._sources[key] = runs
        if len(self._sources) > self._most_sources:
            self._sources.popitem(last=False)
        return runs


@dataclass
class _Run:
    """Rows in a row for which an action held, and when it was last due; of one source."""

    length: int = 0
    last: float = -math.inf

    def step(self, action: ActionConfig, held: bool, now: float) -> bool:
        """Whether the action is due at this row."""
        self.length = self.length + 1 if held else 0
        due = held and self.length >= action.times and now - self.last >= action.every
        if due:
            self.last = now
        return due


def holds(action: ActionConfig, answer: Any) -> bool:
    """Whether the action holds for one answer: a mapping by output, or the bare value of the only one."""
    equal = action.equals is None or _equal(_value(answer, action.output), action.equals)
    return equal and (action.above is None or _above(_value(answer, action.of or action.output), action.above))


def check_actions(actions: Iterable[ActionConfig], signature: Signature) -> None:
    """Raises ``InvalidModel`` for an action that can never hold, or says not exactly one thing to do."""
    for number, action in enumerate(actions):
        if wrong := _flaw(action, signature):
            raise InvalidModel(f"actions[{number}]: {wrong}")


def _flaw(action: ActionConfig, signature: Signature) -> str | None:
    targets = [name for name in TARGETS if getattr(action, name)]
    if len(targets) != 1:
        return f"give exactly one of {', '.join(TARGETS)}, got {' and '.join(targets) or 'none'}"
    if action.equals is None and action.above is None:
        return "say when to act: equals, above, or both"
    if action.of is not None and action.above is None:
        return f"of: {action.of!r} is what `above` is about; give above as well"
    if action.times < 1 or not 0 <= action.every < math.inf:
        return f"times must be at least 1 and every at least 0, got {action.times} and {action.every}"
    if action.above is not None and not math.isfinite(action.above):
        return f"above must be a number, got {action.above}"
    return _output_flaw(action, signature)


def _output_flaw(action: ActionConfig, signature: Signature) -> str | None:
    outputs = {spec.name: spec for spec in signature.outputs}
    looked_at = {action.output, action.of or action.output}
    for name in sorted(looked_at):
        if name not in outputs:
            return f"unknown output {name!r}.{nearest(name, outputs)}"
        if len(outputs[name].shape) != int(signature.batched):
            return f"output {name!r} has more than one value in a row; a rule needs one"
    if action.equals is not None and _kind(outputs[action.output].dtype) != _kind_of(action.equals):
        return f"output {action.output!r} holds {_kind(outputs[action.output].dtype)}, never {action.equals!r}"
    if action.above is not None and outputs[action.of or action.output].dtype is DType.BYTES:
        return f"output {action.of or action.output!r} holds texts; above needs numbers"
    return None


def _kind(dtype: DType) -> str:
    return {DType.BYTES: "texts", DType.BOOL: "true or false"}.get(dtype, "numbers")


def _kind_of(value: str | float | bool) -> str:
    return "texts" if isinstance(value, str) else "true or false" if isinstance(value, bool) else "numbers"


def _value(answer: Any, output: str) -> Any:
    return answer.get(output) if isinstance(answer, dict) else answer


def _equal(value: Any, wanted: str | float | bool) -> bool:
    """True and 1 are not the same; 1 and 1.0 are."""
    return isinstance(value, bool) == isinstance(wanted, bool) and bool(value == wanted)


def _above(value: Any, least: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > least


def _message(prediction: Prediction, row: int, action: ActionConfig) -> dict[str, Any]:
    rule: dict[str, Any] = {"output": action.output}
    for name in ("equals", "above", "of"):
        if (value := getattr(action, name)) is not None:
            rule[name] = value
    if action.times > 1:
        rule["times"] = action.times
    return {**head_of(prediction), "row": row, "prediction": prediction.answers[row], "rule": rule}
