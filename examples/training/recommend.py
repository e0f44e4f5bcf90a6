"""Trains `recommend`: a user's latest items -> the ten items to show tomorrow.

Data: made by `recommend_data.py`, the same 396,829 interactions every time. All days but the last
train, the last day is held out. An item is a vector (a truncated SVD of who took what), a history
is the weighted mean of its items, newest first; what was seen is never shown again.
Run `python examples/training/recommend.py`; it rewrites the artifact, the sample and the card's figures.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import forwardpass

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run as a file, only this folder is there
from examples.training.model_card import write_card
from examples.training.recommend_data import (
    DAYS,
    ITEMS,
    NOTHING,
    PLACES,
    USERS,
    Integers,
    Interactions,
    generate,
    histories,
)

FOLDER = Path(__file__).resolve().parents[1] / "models" / "recommend"
SHOWN = 10
FACTORS = 48
DECAY = 0.9  # each item weighs so much less than the next newer one
Floats = NDArray[np.float32]


def split() -> tuple[Interactions, Interactions]:
    """The interactions of all days but the last, and those of the last."""
    everything = generate()
    return everything.where(everything.day < DAYS), everything.where(everything.day == DAYS)


def evaluate(model: forwardpass.Engine) -> dict[str, float]:
    """Hit rates for the users who took something on the last day, from what they took before.

    A hit: one of the ten items shown is among those that the user took on that day. The baseline
    shows everybody the ten most popular items that are not in the history. ``_ci95`` is half the
    width of the normal 95 % interval.
    """
    before, held_out = split()
    active = np.unique(held_out.user)
    given = histories(before)[active]
    taken = np.zeros((USERS, ITEMS), np.bool_)
    taken[held_out.user, held_out.item] = True
    shown = {"hit_rate": model.predict({"history": given})["items"], "hit_rate_popular": popular_items(before, given)}
    figures: dict[str, float] = {"held_out_users": len(active), "held_out_interactions": len(held_out.user)}
    for name, items in shown.items():
        rate = float(np.take_along_axis(taken[active], items, axis=1).any(axis=1).mean())
        figures[f"{name}_at_10"] = round(rate, 4)
        figures[f"{name}_at_10_ci95"] = round(1.96 * (rate * (1 - rate) / len(active)) ** 0.5, 4)
    figures["share_of_items_ever_shown"] = round(len(np.unique(shown["hit_rate"])) / ITEMS, 4)
    return figures


def popular_items(before: Interactions, given: Integers) -> Integers:
    """The ten most popular items that are not in each history. Shape: [rows, 10]."""
    order = np.argsort(-popularity(before), kind="stable")[: PLACES + SHOWN]
    fresh = ~(order[None, :, None] == given[:, None, :]).any(axis=2)
    places = np.argsort(~fresh, axis=1, kind="stable")[:, :SHOWN]
    return order[places]


def popularity(interactions: Interactions) -> Integers:
    """How often each item was taken, and one more: no item counts nothing."""
    counts: Integers = np.bincount(interactions.item, minlength=ITEMS) + 1
    return counts


def train(before: Interactions) -> Floats:
    """A vector for each item, [items, factors].

    Users count alike however much they took, and so do items however popular they are.
    """
    from scipy.sparse import csr_matrix  # type: ignore[import-untyped]
    from sklearn.decomposition import TruncatedSVD

    each = np.bincount(before.user, minlength=USERS)[before.user] * popularity(before)[before.item]
    table = csr_matrix((each**-0.5, (before.user, before.item)), shape=(USERS, ITEMS))
    factors: Floats = TruncatedSVD(FACTORS, random_state=0, n_iter=7).fit(table).components_.T
    return factors.astype(np.float32)


def export(factors: Floats, counts: Integers) -> onnx.ModelProto:
    """``history`` [rows, 30] in, ``items`` and ``scores`` [rows, 10] out; behind the items lies one that is none."""
    root = np.sqrt(counts / counts.max()).astype(np.float32)[:, None]
    behind = ((0, 1), (0, 0))
    constants = {
        "factors": np.pad(factors, behind).astype(np.float16),
        "root": np.pad(root, behind, constant_values=1),
        "decay": np.float32(DECAY) ** np.arange(PLACES, dtype=np.float32),
        "no_weight": np.float32(0),
        "nowhere": np.array([[-np.inf]], np.float32),
        "nothing": np.array(ITEMS, np.int64),
        "zero": np.array(0, np.int64),
        "tiny": np.float32(1e-6),
        "little": np.float32(1e-4),
        "first": np.array([0], np.int64),
        "second": np.array([1], np.int64),
        "third": np.array([2], np.int64),
        "items_end": np.array([ITEMS], np.int64),
        "shown": np.array([SHOWN], np.int64),
    }
    graph = helper.make_graph(
        _nodes(),
        "recommend",
        [helper.make_tensor_value_info("history", TensorProto.INT64, ["rows", PLACES])],
        [
            helper.make_tensor_value_info("items", TensorProto.INT64, ["rows", SHOWN]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["rows", SHOWN]),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def _nodes() -> list[onnx.NodeProto]:
    """The walk from a history to the items, an operator a line: name, what it reads, what it writes."""
    steps: list[tuple[str, str, str, dict[str, int]]] = [
        ("Less", "history zero", "free", {}),
        ("Where", "free nothing history", "place", {}),
        ("Where", "free no_weight decay", "weight", {}),
        ("Cast", "factors", "vectors", {"to": TensorProto.FLOAT}),
        ("Div", "vectors root", "taken_vectors", {}),  # a rare item says more of its user …
        ("Mul", "vectors root", "shown_vectors", {}),  # … and a popular one is likelier to be taken
        ("Gather", "taken_vectors place", "taken", {}),
        ("Unsqueeze", "weight third", "weights", {}),
        ("Mul", "taken weights", "weighted", {}),
        ("ReduceSum", "weighted second", "sum", {"keepdims": 0}),
        ("ReduceSum", "weight second", "all_weight", {"keepdims": 1}),
        ("Max", "all_weight tiny", "divisor", {}),
        ("Div", "sum divisor", "profile", {}),
        ("Transpose", "shown_vectors", "across", {}),
        ("MatMul", "profile across", "likeness", {}),
        ("Transpose", "root", "popularity", {}),
        ("Mul", "popularity little", "bonus", {}),  # for who has no history yet
        ("Add", "likeness bonus", "every_score", {}),
        ("Shape", "place", "size", {}),
        ("Expand", "nowhere size", "never", {}),
        ("ScatterElements", "every_score place never", "unseen_and_nothing", {"axis": 1}),
        ("Slice", "unseen_and_nothing first items_end second", "unseen", {}),
    ]
    nodes = [helper.make_node(kind, reads.split(), [writes], **more) for kind, reads, writes, more in steps]
    return [*nodes, helper.make_node("TopK", ["unseen", "shown"], ["scores", "items"], axis=1)]


def write_sample(given: Integers) -> None:
    """A full history, a short one, and none at all."""
    length = (given != NOTHING).sum(axis=1)
    rows = [given[np.argmax(length == PLACES)], given[np.argmax(length == 6)], np.full(PLACES, NOTHING)]
    body = {"instances": [{"history": row.tolist()} for row in rows]}
    (FOLDER / "sample.json").write_text(json.dumps(body) + "\n", encoding="utf-8")


def main() -> None:
    before, _ = split()
    onnx.save(export(train(before), popularity(before)), FOLDER / "model.onnx")
    write_sample(histories(before))
    figures = evaluate(forwardpass.load(FOLDER))
    write_card(FOLDER, figures)
    print(figures)


if __name__ == "__main__":
    main()
