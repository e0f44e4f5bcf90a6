"""Small trained models for the tests of importing; each is fitted in well under a second."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import lightgbm
import numpy as np
import xgboost
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from forwardpass.types import Array


@cache
def table() -> tuple[Array, Array]:
    """Breast cancer: 569 rows of 30 numbers that float32 does not hold exactly, and 0 or 1."""
    rows, labels = load_breast_cancer(return_X_y=True)
    return rows, labels


@cache
def digits() -> tuple[Array, Array]:
    rows, labels = load_digits(return_X_y=True)
    return rows[:500], labels[:500]


def names() -> Array:
    return np.array(["malignant", "benign"])[table()[1]]


FITS: dict[str, Callable[[], Any]] = {
    "logistic": lambda: make_pipeline(StandardScaler(), LogisticRegression()).fit(table()[0], names()),
    "forest": lambda: RandomForestClassifier(10, max_depth=6, random_state=0).fit(*digits()),
    "forest of numbers": lambda: RandomForestRegressor(5, max_depth=6, random_state=0).fit(
        table()[0], table()[0][:, 0]
    ),
    "boosting": lambda: GradientBoostingClassifier(n_estimators=10, random_state=0).fit(*table()),
    "support vectors": lambda: make_pipeline(StandardScaler(), SVC()).fit(table()[0], names()),
    "histograms": lambda: HistGradientBoostingClassifier(max_iter=5, random_state=0).fit(*table()),
    "xgboost": lambda: xgboost.XGBClassifier(n_estimators=5, max_depth=3, n_jobs=1).fit(*digits()),
    "xgboost of numbers": lambda: xgboost.XGBRegressor(n_estimators=5, n_jobs=1).fit(table()[0], table()[0][:, 0]),
    "lightgbm": lambda: lightgbm.LGBMClassifier(n_estimators=10, verbose=-1, n_jobs=1).fit(*table()),
    "lightgbm of numbers": lambda: lightgbm.LGBMRegressor(n_estimators=5, verbose=-1, n_jobs=1).fit(
        table()[0], table()[0][:, 0]
    ),
}


@cache
def fitted(name: str) -> Any:
    return FITS[name]()
