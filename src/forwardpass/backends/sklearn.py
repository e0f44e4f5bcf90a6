"""scikit-learn: runs ``.skops`` artifacts and, where the operator allows it by name, pickles.

    bytes ─► types looked at ─► loaded ─► trees looked at ─► outputs found by one row of zeros

The only module that imports ``sklearn``, ``skops`` and ``joblib``. A skops file may hold the types that skops itself
trusts and those that ``safety`` lists; any other is refused by name. Knows no ``model.yaml`` and no requests.
"""

from __future__ import annotations

import io
import pickle
import warnings
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import skops.io
from sklearn.base import is_classifier, is_regressor
from sklearn.ensemble import (
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer
from sklearn.pipeline import Pipeline
from threadpoolctl import ThreadpoolController

from forwardpass.backends.base import Backend
from forwardpass.backends.checks import check_columns, check_texts, empty_columns, one_line, require_plain
from forwardpass.backends.safety import SKOPS_TYPES, is_code_allowed, require_code_allowed
from forwardpass.backends.tabular import (
    FEATURES,
    LABEL,
    PREDICTION,
    PROBABILITIES,
    classifier_specs,
    features_spec,
    prediction_spec,
)
from forwardpass.backends.trees import check_trees, parts_of
from forwardpass.config import BackendConfig
from forwardpass.errors import BackendFailed, InvalidInput, InvalidModel, InvalidRows
from forwardpass.types import Array, Columns, DType, TensorSpec

TEXT = "text"

# What reading a file, a model in it, or a row raises; the libraries have no common base for their errors.
_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
)
# Their ``predict`` is the likeliest class of ``predict_proba``, so one walk through the trees gives both.
_LIKELIEST = (ExtraTreesClassifier, HistGradientBoostingClassifier, RandomForestClassifier)


class SklearnBackend(Backend):
    """One fitted estimator or pipeline.

    Takes ``features`` (FP64, in which scikit-learn computes) or, where it begins with a vectoriser, ``text``. A
    classifier gives ``label`` (INT64 where the classes are whole numbers, else BYTES) and, where it has them,
    ``probabilities``; a regressor ``prediction``; what finds clusters or outliers ``label``; a transformer
    ``features``.
    """

    name = "sklearn"

    def __init__(self, artifact: Path, threads: int, config: BackendConfig | None = None) -> None:
        """Load an artifact to compute with ``threads`` threads; ``InvalidModel`` if it cannot be used."""
        require_plain(artifact, config, "scikit-learn")
        model = load_model(artifact)
        self._threads = threads
        self._named = _prepare(artifact, model)
        self._blas = ThreadpoolController()
        self._before, self._last = _split(model)
        self.inputs = (_input_spec(artifact, model),)
        self.outputs, self._answer = self._find_outputs(artifact)
        self.batched = True

    def run(self, columns: Columns) -> Columns:
        check_columns(columns, self.inputs)
        spec = self.inputs[0]
        rows = columns[spec.name]
        if not len(rows):
            return empty_columns(self.outputs)
        given = check_texts(TEXT, rows) if spec.name == TEXT else rows
        try:
            answer: Columns = self._compute(given, self._answer)
            return answer
        except ValueError as reason:  # the types and shapes are right, so it is about values
            raise _input_error(rows, reason) from None
        except _ERRORS as reason:
            raise BackendFailed(f"the artifact failed: {type(reason).__name__}: {one_line(reason)}") from None

    def close(self) -> None:
        del self._before, self._last, self._answer  # memory is freed with the last reference

    def _compute(self, given: Any, answer: Callable[[Any], Any]) -> Any:
        """``answer`` for rows that have gone through the steps before the last, with this backend's threads."""
        with ExitStack() as around:
            around.enter_context(self._blas.limit(limits=self._threads))
            around.enter_context(joblib.parallel_config("threading", n_jobs=self._threads))
            if self._named:  # the columns come by their order, which is what it warns of
                around.enter_context(warnings.catch_warnings())
                warnings.filterwarnings("ignore", message="X does not have valid feature names")
            return answer(given if self._before is None else self._before.transform(given))

    def _find_outputs(self, artifact: Path) -> tuple[tuple[TensorSpec, ...], Callable[[Any], Columns]]:
        """What the last step gives, and the method that makes it."""
        last = self._last
        if is_classifier(last):
            self._label, self._classes = _classes(artifact, last)
            if not hasattr(last, "predict_proba"):
                return (TensorSpec(LABEL, self._label, (None,)),), self._labels
            specs = classifier_specs(len(self._classes), self._label)
            return specs, self._likeliest if isinstance(last, _LIKELIEST) else self._classify
        if is_regressor(last):
            example = self._example(artifact, last.predict)
            self._dtype = _float_type(example)
            return (prediction_spec((1,) if example is None else example.shape, self._dtype),), self._regress
        if hasattr(last, "predict"):
            return (TensorSpec(LABEL, DType.INT64, (None,)),), self._assign
        if not hasattr(last, "transform"):
            raise InvalidModel(f"{artifact.name}: a {type(last).__name__} has neither `predict` nor `transform`")
        example = self._example(artifact, last.transform)
        self._dtype = _float_type(example)
        return (TensorSpec(FEATURES, self._dtype, (None, None if example is None else example.shape[1])),), (
            self._transform
        )

    def _example(self, artifact: Path, method: Callable[[Any], Any]) -> Any:
        """What a row of zeros gives, for its shape and type; None where the model refuses zeros."""
        spec = self.inputs[0]
        given = ["a"] if spec.name == TEXT else np.zeros((1, spec.shape[1] or 0))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return self._compute(given, method)
        except NotFittedError as reason:
            raise InvalidModel(f"{artifact.name}: the model is not fitted ({one_line(reason)})") from None
        except _ERRORS:
            return None

    def _labels(self, rows: Any) -> Columns:
        return {LABEL: _as_labels(self._last.predict(rows), self._label)}

    def _classify(self, rows: Any) -> Columns:
        probabilities = np.asarray(self._last.predict_proba(rows), np.float32)
        return {**self._labels(rows), PROBABILITIES: probabilities}

    def _likeliest(self, rows: Any) -> Columns:
        probabilities = self._last.predict_proba(rows)
        label = self._classes[probabilities.argmax(axis=1)]
        return {LABEL: label, PROBABILITIES: probabilities.astype(np.float32)}

    def _regress(self, rows: Any) -> Columns:
        return {PREDICTION: np.asarray(self._last.predict(rows), self._dtype.numpy)}

    def _assign(self, rows: Any) -> Columns:
        return {LABEL: np.asarray(self._last.predict(rows), np.int64)}

    def _transform(self, rows: Any) -> Columns:
        answer = self._last.transform(rows)
        return {FEATURES: np.asarray(answer.toarray() if hasattr(answer, "toarray") else answer, self._dtype.numpy)}


def load_model(artifact: Path) -> Any:
    """The estimator in an artifact. Raises ``InvalidModel`` where it may not or cannot be loaded."""
    if artifact.suffix != ".skops":
        require_code_allowed(artifact, "is a pickle; save the model with skops.io.dump(model, 'model.skops') instead")
    try:
        content = artifact.read_bytes()
        if artifact.suffix != ".skops":
            return joblib.load(io.BytesIO(content))
        untrusted = set(skops.io.get_untrusted_types(data=content)) if content else set()
        refused = sorted(untrusted - SKOPS_TYPES)
        if refused:
            require_code_allowed(artifact, f"holds types that are not trusted: {', '.join(refused)}")
        return skops.io.loads(content, trusted=sorted(untrusted))
    except _ERRORS as reason:
        raise InvalidModel(
            f"{artifact.name}: scikit-learn cannot load it: {type(reason).__name__}: {one_line(reason)}"
        ) from None


def _prepare(artifact: Path, model: Any) -> bool:
    """Check what a model is made of and take its own number of threads away; whether its columns have names."""
    if not hasattr(model, "get_params"):
        raise InvalidModel(f"{artifact.name}: holds a {type(model).__name__}, which is no scikit-learn estimator")
    if not is_code_allowed(artifact):
        try:
            check_trees(model)
        except InvalidModel as wrong:
            raise InvalidModel(f"{artifact.name}: {wrong.message}") from None
        except _ERRORS as reason:
            raise InvalidModel(f"{artifact.name}: a part of the model is damaged: {one_line(reason)}") from None
    named = False
    for part in parts_of(model):
        own = getattr(part, "__dict__", {})
        _require_numbers(artifact, part, own)
        named = named or "feature_names_in_" in own
        if "n_jobs" in own:
            part.n_jobs = None  # as many as this backend has, as threads: some would start processes
    return named


def _require_numbers(artifact: Path, part: Any, own: dict[str, Any]) -> None:
    """The columns of one tensor have numbers, not names, and hold numbers, not texts."""
    chosen = [columns for _, _, columns in own.get("transformers_", ())]
    texts = any(np.asarray(categories).dtype.kind in "OUS" for categories in own.get("categories_", ()))
    if texts or any(isinstance(name, str) for columns in chosen for name in np.atleast_1d(np.asarray(columns, object))):
        raise InvalidModel(
            f"{artifact.name}: its {type(part).__name__} takes a table with named columns or texts; a scikit-learn "
            "artifact takes one tensor of numbers: fit it on an array, with columns by number and categories as codes"
        )
    if isinstance(part, (CountVectorizer, HashingVectorizer)) and own.get("input") != "content":
        raise InvalidModel(
            f"{artifact.name}: its {type(part).__name__} opens the files that callers name; "
            "create it with input='content'"
        )


def _split(model: Any) -> tuple[Any, Any]:
    """The steps before the last, or None, and the last: they run once, also where the last is asked twice."""
    if isinstance(model, Pipeline) and len(model.steps) > 1 and hasattr(model.steps[-1][1], "get_params"):
        return model[:-1], model.steps[-1][1]
    return None, model


def _input_spec(artifact: Path, model: Any) -> TensorSpec:
    first = model
    while isinstance(first, Pipeline) and first.steps:
        first = first.steps[0][1]
    if isinstance(first, (CountVectorizer, HashingVectorizer)):
        return TensorSpec(TEXT, DType.BYTES, (None,))
    columns = getattr(model, "n_features_in_", None)
    if columns is None:
        raise InvalidModel(
            f"{artifact.name}: a {type(first).__name__} does not say how many columns it takes: it is not fitted, "
            "or takes no table of numbers"
        )
    return features_spec(int(columns), DType.FP64)


def _classes(artifact: Path, classifier: Any) -> tuple[DType, Array]:
    """The type of ``label``, and the classes in the order of their probabilities."""
    try:
        classes = classifier.classes_
    except AttributeError:
        raise InvalidModel(f"{artifact.name}: the {type(classifier).__name__} is not fitted") from None
    several = isinstance(classes, list) or np.ndim(classes) != 1 or getattr(classifier, "multilabel_", False)
    binarizer = getattr(classifier, "_label_binarizer", None)  # of a network
    if several or str(getattr(binarizer, "y_type_", "")).startswith("multilabel"):
        raise InvalidModel(f"{artifact.name}: gives several labels per row; only classifiers with one label are served")
    classes = np.asarray(classes)
    whole = classes.dtype.kind in "iub" or (classes.dtype.kind == "f" and bool(np.all(classes == np.floor(classes))))
    label = DType.INT64 if whole else DType.BYTES
    return label, _as_labels(classes, label)


def _float_type(example: Any) -> DType:
    return DType.FP32 if example is not None and example.dtype == np.float32 else DType.FP64


def _as_labels(values: Any, label: DType) -> Array:
    array = np.asarray(values)
    return array.astype(np.int64) if label is DType.INT64 else array.astype(str).astype(object)


def _input_error(rows: Array, reason: ValueError) -> InvalidInput:
    """Which rows are wrong, where it is that they are not finite; else the library's word."""
    if rows.dtype.kind == "f" and any(word in str(reason) for word in ("NaN", "infinity")):
        wrong = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        if len(wrong):
            problem = f"input {FEATURES!r} holds NaN or infinity, which this model does not take"
            return InvalidRows({int(row): problem for row in wrong})
    return InvalidInput(f"the artifact cannot run this input: {one_line(reason)}")
