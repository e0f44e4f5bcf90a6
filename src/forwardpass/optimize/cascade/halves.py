"""Labelled rows in two halves: one chooses, the other judges what was chosen.

Drawn with a fixed seed and stratified: each class goes to both halves alike. Knows no model.
"""

from __future__ import annotations

import numpy as np

from forwardpass.types import Array

SEED = 20_261  # of the draw: the same rows give the same halves


def halves(classes: Array) -> tuple[Array, Array]:
    """Indices of the rows that choose and of those that judge, each rising; ``classes`` are texts [rows]."""
    order = np.random.default_rng(SEED).permutation(len(classes))
    together = order[np.argsort(classes[order], kind="stable")]  # class by class, in any order within
    return np.sort(together[::2]), np.sort(together[1::2])
