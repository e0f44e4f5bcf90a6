"""What members have in common, from their signatures alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from forwardpass.errors import InvalidModel
from forwardpass.gateway.agreement import Agreement, agree
from forwardpass.types import DType, InputSpec, Signature, TensorSpec

X = {"x": (DType.FP32, (None, 3))}
P = {"p": (DType.FP32, (None, 4))}
LABEL = {"label": (DType.BYTES, (None,))}
Tensors = dict[str, Any]


def signature(inputs: Tensors, outputs: Tensors, *, batched: bool = True) -> Signature:
    takes = tuple(InputSpec(TensorSpec(name, *rest)) for name, rest in inputs.items())
    return Signature(takes, tuple(TensorSpec(name, *rest) for name, rest in outputs.items()), batched)


def agreed(small: Signature, large: Signature, *wanted: str) -> Agreement:
    return agree({"small": small, "large": large}, "large", "p", wanted)


def test_outputs_that_only_one_has_are_left_out() -> None:
    found = agreed(signature(X, {**P, **LABEL, "mine": LABEL["label"]}), signature(X, {**LABEL, **P, "its": X["x"]}))
    assert [spec.name for spec in found.outputs] == ["p", "label"]
    assert [spec.name for spec in found.signature.outputs] == ["p", "label", "member", "confidence", "provisional"]
    assert found.signature.batched


def test_the_last_need_not_say_how_sure_it_is() -> None:
    found = agreed(signature(X, {**P, **LABEL}), signature(X, LABEL))
    assert [spec.name for spec in found.outputs] == ["label"]


def test_outputs_can_be_named() -> None:
    both = signature(X, {**P, **LABEL})
    assert [spec.name for spec in agreed(both, both, "label").outputs] == ["label"]
    with pytest.raises(InvalidModel, match=r"outputs: 'small' has no output 'labels'.*'label'"):
        agreed(both, both, "labels")
    with pytest.raises(InvalidModel, match="'large' has no output 'label'"):
        agreed(both, signature(X, P), "label")


def test_an_output_of_a_name_that_the_cascade_adds_is_replaced() -> None:
    both = signature(X, {**P, "confidence": (DType.FP32, (None,))})
    assert [spec.name for spec in agreed(both, both).signature.outputs] == ["p", "member", "confidence", "provisional"]


@pytest.mark.parametrize(
    ("inputs", "outputs", "match"),
    [
        (
            X,
            {"p": (DType.FP64, (None, 4))},
            r"output 'p' is FP32\[\?, 4\] of the first member and FP64\[\?, 4\] of 'la",
        ),
        (X, {"p": (DType.FP32, (None, 5))}, r"output 'p' is FP32\[\?, 4\] .* FP32\[\?, 5\] of 'large'"),
        (X, {"q": P["p"]}, r"no output in common: 'small' gives p; 'large' gives q"),
        ({"x": (DType.FP32, (None, 4))}, P, r"input 'x' is FP32\[\?, 3\] .* FP32\[\?, 4\]"),
        ({"y": X["x"]}, P, "'large' takes an input 'y', which the first member does not take"),
    ],
)
def test_a_difference_is_named(inputs: Tensors, outputs: Tensors, match: str) -> None:
    with pytest.raises(InvalidModel, match=match):
        agreed(signature(X, P), signature(inputs, outputs))


def test_a_free_axis_goes_with_any() -> None:
    found = agreed(signature({"x": (DType.FP32, (None, None))}, P), signature(X, {"p": (DType.FP32, (None, None))}))
    assert found.outputs[0].shape == (None, 4)


def test_a_member_that_is_not_batched_is_refused() -> None:
    with pytest.raises(InvalidModel, match="'large' is not batched"):
        agreed(signature(X, P), signature(X, P, batched=False))


@pytest.mark.parametrize("kind", [(DType.INT64, (None,)), (DType.FP32, (None, 2, 2)), (DType.BYTES, (None,))])
def test_a_confidence_that_cannot_be_one_is_refused(kind: Any) -> None:
    with pytest.raises(InvalidModel, match=r"output 'p' of 'small' is .*a confidence is taken from"):
        agreed(signature(X, {"p": kind, **LABEL}), signature(X, LABEL))


def test_a_confidence_that_is_not_there_is_refused() -> None:
    with pytest.raises(InvalidModel, match=r"'small' has no output 'p' to take the confidence from.*'pp'"):
        agreed(signature(X, {"pp": P["p"]}), signature(X, {"pp": P["p"]}))


def test_every_member_but_the_last_must_say_how_sure_it_is() -> None:
    members = {"small": signature(X, {**P, **LABEL}), "middle": signature(X, LABEL), "large": signature(X, LABEL)}
    with pytest.raises(InvalidModel, match="'middle' has no output 'p'"):
        agree(members, "large", "p", ())


def test_answers_differ_by_their_labels() -> None:
    found = agreed(signature(X, {**P, **LABEL}), signature(X, {**P, **LABEL}))
    assert found.comparable()
    p = np.full((3, 4), 0.25)
    mine = {"p": p, "label": np.array(["a", "b", "c"], object)}
    theirs = {"p": 1 - p, "label": np.array([b"a", "x", b"c"], object)}
    assert found.differs(mine, theirs).tolist() == [False, True, False]


def test_without_labels_they_differ_by_the_most_probable_class() -> None:
    found = agreed(signature(X, P), signature(X, P))
    mine = {"p": np.eye(4)[[0, 1, 2]]}
    theirs = {"p": np.eye(4)[[0, 3, 2]] * 0.9}
    assert found.differs(mine, theirs).tolist() == [False, True, False]
    one = {"p": (DType.FP32, (None,))}
    single = agreed(signature(X, one), signature(X, one))
    assert single.differs({"p": np.array([0.9, 0.4])}, {"p": np.array([0.6, 0.5])}).tolist() == [False, True]


def test_numbers_alone_cannot_be_compared() -> None:
    size = {"size": (DType.FP32, (None,))}
    assert not agreed(signature(X, {**P, **size}), signature(X, size)).comparable()
