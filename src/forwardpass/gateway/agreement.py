"""What the members of a cascade have in common: the inputs they take, the outputs that can stand for each other.

Decided from signatures alone, before the first request: which outputs the cascade answers with, how sure an answer is
read from a member's answer, and by what two answers are told apart. Asks no member.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from forwardpass.errors import InvalidModel, nearest
from forwardpass.types import Array, Columns, DType, InputSpec, Signature, TensorSpec

MEMBER, CONFIDENCE, PROVISIONAL = "member", "confidence", "provisional"  # outputs that a cascade adds
ADDED = (
    TensorSpec(MEMBER, DType.BYTES, (None,)),
    TensorSpec(CONFIDENCE, DType.FP32, (None,)),
    TensorSpec(PROVISIONAL, DType.BOOL, (None,)),
)
Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class Agreement:
    """``outputs`` are those that every member gives; ``confidence`` is the output that says how sure an answer is."""

    inputs: tuple[InputSpec, ...]
    outputs: tuple[TensorSpec, ...]
    confidence: str

    @property
    def signature(self) -> Signature:
        return Signature(self.inputs, (*self.outputs, *ADDED), batched=True)

    def why_not(self, name: str, member: Signature, *, last: bool) -> str:
        """Why a member of this signature cannot take part; "" where it can. The last need not say how sure it is."""
        if not member.batched:
            return f"{name!r} is not batched, and a cascade decides row by row"
        mine = {spec.name: spec.tensor for spec in self.inputs}
        for spec in member.inputs:
            if why := _unlike("input", name, mine.get(spec.name), spec.tensor):
                return why
        theirs = {spec.name: spec for spec in member.outputs}
        for output in self.outputs:
            if output.name not in theirs:
                return f"{name!r} has no output {output.name!r}; name those to answer with in `outputs`"
            if why := _unlike("output", name, output, theirs[output.name]):
                return why
        return "" if last else _why_not_sure(name, theirs, self.confidence)

    def comparable(self) -> bool:
        return bool(self._decisions()) or self.confidence in {spec.name for spec in self.outputs}

    def differs(self, mine: Columns, theirs: Columns) -> Array:
        """For each row, whether two answers decide differently. Shape: [rows], bool.

        By the outputs that hold no fractions (labels, classes, flags) where there are any, else by the most probable
        class.
        """
        decisions = self._decisions()
        if decisions:
            return np.asarray(np.any([_unequal(mine[name], theirs[name]) for name in decisions], axis=0))
        return np.asarray(_winner(mine[self.confidence]) != _winner(theirs[self.confidence]))

    def _decisions(self) -> list[str]:
        return [spec.name for spec in self.outputs if not spec.dtype.is_float]


def agree(members: Mapping[str, Signature], last: str, confidence: str, wanted: Sequence[str]) -> Agreement:
    """What the members that are known agree on, the first of all first; ``wanted`` are the outputs asked for, or none.

    ``last`` is the one that need not say how sure it is. Raises ``InvalidModel`` naming the difference.
    """
    first, *others = members.items()
    own = {spec.name: spec for spec in first[1].outputs}
    if missing := [name for name in wanted if name not in own]:
        raise InvalidModel(f"outputs: {first[0]!r} has no output {missing[0]!r}.{nearest(missing[0], own)}")
    added = {spec.name for spec in ADDED}
    shared = [name for name in wanted or own if name not in added and (wanted or _in_all(name, others))]
    if not shared:
        listed = "; ".join(f"{name!r} gives {', '.join(_names(signature))}" for name, signature in members.items())
        raise InvalidModel(f"the members have no output in common: {listed}")
    agreement = Agreement(first[1].inputs, tuple(own[name] for name in shared), confidence)
    for name, signature in members.items():
        if why := agreement.why_not(name, signature, last=name == last):
            raise InvalidModel(why)
    return agreement


def _in_all(name: str, members: Sequence[tuple[str, Signature]]) -> bool:
    return all(name in _names(signature) for _, signature in members)


def _names(signature: Signature) -> list[str]:
    return [spec.name for spec in signature.outputs]


def _unlike(what: str, member: str, mine: TensorSpec | None, theirs: TensorSpec) -> str:
    if mine is None:
        return f"{member!r} takes an input {theirs.name!r}, which the first member does not take"
    if mine.dtype is theirs.dtype and _same_class(mine.shape, theirs.shape):
        return ""
    return f"{what} {theirs.name!r} is {_show(mine)} of the first member and {_show(theirs)} of {member!r}"


def _same_class(mine: Shape, theirs: Shape) -> bool:
    return len(mine) == len(theirs) and all(a is None or b is None or a == b for a, b in zip(mine, theirs, strict=True))


def _show(spec: TensorSpec) -> str:
    axes = ", ".join("?" if axis is None else str(axis) for axis in spec.shape)
    return f"{spec.dtype}[{axes}]"


def _why_not_sure(name: str, outputs: Mapping[str, TensorSpec], confidence: str) -> str:
    """Why a member's answer does not say how sure it is."""
    spec = outputs.get(confidence)
    if spec is None:
        hint = nearest(confidence, outputs)
        return f"escalation: {name!r} has no output {confidence!r} to take the confidence from.{hint}"
    if not spec.dtype.is_float or len(spec.shape) not in (1, 2):
        return (
            f"escalation: output {confidence!r} of {name!r} is {_show(spec)}; a confidence is taken from the "
            "probability of each class, FP32[?, classes], or from one probability, FP32[?]"
        )
    return ""


def _unequal(mine: Array, theirs: Array) -> Array:
    if mine.shape != theirs.shape:
        return np.ones(len(mine), bool)
    if mine.dtype.kind == "O":
        pairs = zip(mine.reshape(-1), theirs.reshape(-1), strict=True)
        unequal = np.array([_text(a) != _text(b) for a, b in pairs], bool).reshape(mine.shape)
    else:
        unequal = mine != theirs
    return np.asarray(unequal.reshape(len(mine), -1).any(axis=1))


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "replace")


def _winner(probabilities: Array) -> Array:
    table = probabilities.reshape(len(probabilities), -1)
    winner: Array = table[:, 0] >= 0.5 if table.shape[1] == 1 else table.argmax(axis=1)
    return winner
