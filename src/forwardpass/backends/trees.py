"""Whether the trees of a loaded scikit-learn model are trees over the columns that the model takes.

scikit-learn walks its trees by the node numbers and columns that a file says, without looking whether they are
there: a crafted file makes it read, or write, memory that is not its own. Looks at attributes; imports no library.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from forwardpass.errors import InvalidModel
from forwardpass.types import Array


def parts_of(model: Any) -> Iterator[Any]:
    """Everything that a model is made of, itself first: what its attributes, lists and object arrays hold, once."""
    seen: dict[int, Any] = {}  # holding them: a number given twice would hide a part
    waiting = [model]
    while waiting:
        part = waiting.pop()
        if isinstance(part, (str, bytes, int, float, np.generic, type(None), type)) or id(part) in seen:
            continue
        seen[id(part)] = part
        if isinstance(part, dict):
            waiting += part.values()
        elif isinstance(part, (list, tuple, set)):
            waiting += part
        elif isinstance(part, np.ndarray):
            waiting += part.flat if part.dtype == object else ()
        else:
            yield part
            waiting += getattr(part, "__dict__", {}).values()


def check_trees(model: Any) -> None:
    """Raise ``InvalidModel`` where a tree names a node or a column that is not there."""
    for part in parts_of(model):
        own = getattr(part, "__dict__", {})
        if "tree_" in own:
            _require(own["tree_"].n_features == own.get("n_features_in_"), "a tree is over other columns than its own")
            _check_tree(own["tree_"])
        if "estimators_" in own:
            _check_ensemble(part)
        if "_predictors" in own:
            _check_histogram_trees(own)


def _check_tree(tree: Any) -> None:
    """``sklearn.tree._tree.Tree``: a leaf has -1 on its left; the builders number children after their parent."""
    inner = np.flatnonzero(tree.children_left != -1)
    _require(tree.node_count > 0, "a tree has no nodes")
    _check_children(inner, tree.children_left[inner], tree.children_right[inner], tree.node_count)
    _check_below(tree.feature[inner], tree.n_features)


def _check_ensemble(ensemble: Any) -> None:
    """Forests and boosting hand their columns to the trees unchecked; boosting lets trees write into its sums."""
    trees = [item for item in np.asarray(ensemble.estimators_, object).flat if hasattr(item, "tree_")]
    takes = getattr(ensemble, "n_features_in_", 0)
    drawn = getattr(ensemble, "estimators_features_", None) or [range(takes)] * len(trees)
    _require(len(drawn) >= len(trees), "an ensemble draws columns for fewer trees than it has")
    for tree, columns in zip(trees, drawn, strict=False):
        _require(tree.tree_.n_features <= len(columns), "a tree is over more columns than its ensemble takes")
    sums = getattr(ensemble, "n_trees_per_iteration_", None)
    _require(sums is None or ensemble.estimators_.shape[1] == sums, "boosting has more trees in a round than sums")


def _check_histogram_trees(own: dict[str, Any]) -> None:
    """``HistGradientBoosting…``: nodes are records, with a place in a table of bits where a column is categorical."""
    columns = min(own.get("_n_features", 0), len(own["_bin_mapper"].is_categorical_))
    for tree in (tree for trees in own["_predictors"] for tree in trees):
        nodes = tree.nodes
        _require(len(nodes) > 0, "a tree has no nodes")
        inner = np.flatnonzero(nodes["is_leaf"] == 0)
        _check_children(inner, nodes["left"][inner], nodes["right"][inner], len(nodes))
        _check_below(nodes["feature_idx"][inner], columns)
        categorical = inner[nodes["is_categorical"][inner] != 0]
        _check_below(nodes["bitset_idx"][categorical], len(tree.raw_left_cat_bitsets))


def _check_children(parents: Array, left: Array, right: Array, count: int) -> None:
    for children in (left.astype(np.int64), right.astype(np.int64)):
        _require(bool(np.all((children > parents) & (children < count))), "a tree names nodes that are not there")


def _check_below(numbers: Array, limit: int) -> None:
    numbers = numbers.astype(np.int64)
    _require(bool(np.all((numbers >= 0) & (numbers < limit))), "a tree names columns that are not there")


def _require(holds: bool, problem: str) -> None:
    if not holds:
        raise InvalidModel(f"{problem}; the file is damaged, or made to crash what loads it")
