"""Whether two models can be one cascade, and which of their outputs are the answer and the confidence.

In flow signatures, outputs and labels; out flow names of outputs and classes as texts. What does not fit is refused
with the difference. Measures nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from forwardpass.errors import InvalidInput, InvalidModel, nearest
from forwardpass.optimize import metric
from forwardpass.optimize.answers import answered_classes
from forwardpass.pipeline.confidence import flaw
from forwardpass.types import Array, Columns, Signature


@dataclass(frozen=True)
class Judged:
    """Classes as texts, [rows] each: what is right, and what both models answer in ``output``.

    ``outputs`` are those that the cascade must be held to, where others have one name and two shapes.
    """

    output: str
    truth: Array
    small: Array
    large: Array
    outputs: tuple[str, ...] = ()


def require_alike(small: Signature, large: Signature) -> None:
    """Both must take the same inputs. Raises ``InvalidModel`` naming the first difference."""
    first, second = ({spec.tensor.name: spec for spec in one.inputs} for one in (small, large))
    if apart := sorted(first.keys() ^ second.keys()):
        holder = "MODEL" if apart[0] in first else "--against"
        raise InvalidModel(
            f"only {holder} has an input {apart[0]!r}; both must take the same rows, as callers send them"
        )
    for name, spec in first.items():
        here, there = ((one.type, one.tensor.dtype) for one in (spec, second[name]))
        if here != there:
            raise InvalidModel(
                f"input {name!r} is {' '.join(map(str, here))} of MODEL and {' '.join(map(str, there))} of --against; "
                "both must take the same rows, as callers send them"
            )


def judge(labels: Array, small: Columns, large: Columns, output: str | None) -> Judged:
    """The output that both answer with, by name or the first that fits, and its classes.

    Raises ``InvalidInput`` where there is none, or where a model's classes are none of the labels'.
    """
    shared = {name: column for name, column in small.items() if name in large and _alike(column, large[name])}
    if output is not None and output not in shared:
        raise InvalidInput(
            f"--answer: there is no output {output!r} that both models have alike.{nearest(output, shared)}"
        )
    if not shared:
        raise InvalidInput(
            f"the models have no output in common: MODEL gives {_shapes(small)}, --against {_shapes(large)}; name and "
            "shape one alike"
        )
    _, name = metric.choose(shared, labels, "accuracy", output, "--answer")
    truth, given = answered_classes(labels, small[name])
    try:
        asked = answered_classes(labels, large[name])[1]
    except InvalidInput as error:
        raise InvalidInput(f"--against, output {name!r}: {error.message}") from None
    unlike = (small.keys() & large.keys()) - shared.keys()
    return Judged(name, truth, given, asked, tuple(shared) if unlike else ())


def find_confidence(outputs: Mapping[str, Array], given: str | None, classes: int) -> str:
    """The output with the probability of each class, by name or the only one that fits.

    ``classes`` are how many there are: one number a row says enough of two. Raises ``InvalidInput`` with the reason.
    """
    if given is not None and given not in outputs:
        raise InvalidInput(f"--confidence: the model has no output {given!r}.{nearest(given, outputs)}")
    flaws = {name: _flaw(column, classes) for name, column in outputs.items() if given in (None, name)}
    fitting = [name for name, reason in flaws.items() if reason is None]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise InvalidInput(
            f"outputs {', '.join(map(repr, fitting))} may be the confidence; say which with --confidence"
        )
    told = "; ".join(f"{name!r}: {reason}" for name, reason in flaws.items())
    raise InvalidInput(f"no output of MODEL is a confidence. {told}. Add a softmax or sigmoid step, and answer with it")


def _flaw(column: Array, classes: int) -> str | None:
    if reason := flaw(column):
        return reason
    if classes > 2 and column[:1].size == 1:
        return f"one number a row does not say enough where there are {classes} classes; it needs one for each"
    return None


def _alike(one: Array, other: Array) -> bool:
    return one.dtype.kind == other.dtype.kind and one.shape[1:] == other.shape[1:]


def _shapes(columns: Mapping[str, Array]) -> str:
    return ", ".join(f"{name} {list(column.shape[1:]) or ''}".rstrip() for name, column in columns.items())
