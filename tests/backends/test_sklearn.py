"""scikit-learn: the library's own answers by kind of estimator, what may be loaded, and what goes wrong in words."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import skops.io
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes, load_iris
from sklearn.decomposition import PCA
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    BaggingClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
    StackingClassifier,
)
from sklearn.feature_extraction.text import HashingVectorizer, TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier
from threadpoolctl import threadpool_limits

from forwardpass.backends import create_backend
from forwardpass.backends.safety import ALLOW_CODE
from forwardpass.backends.sklearn import SklearnBackend
from forwardpass.config import BackendConfig
from forwardpass.errors import InvalidInput, InvalidModel, InvalidRows
from forwardpass.types import DType, TensorSpec

IRIS, SPECIES = load_iris(return_X_y=True)
NAMES = np.array(["setosa", "versicolor", "virginica"])[SPECIES]
DIABETES, PROGRESS = load_diabetes(return_X_y=True)
TEXTS = ["the cat sat", "a dog ran", "the cat ran", "dogs and dogs"]


@pytest.fixture(autouse=True)
def _nobody_is_allowed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """And training takes one thread: on a busy machine several wait for each other."""
    monkeypatch.delenv(ALLOW_CODE, raising=False)
    with threadpool_limits(1):
        yield


def save(model: Any, path: Path) -> Path:
    skops.io.dump(model, path)
    return path


def open_backend(model: Any, folder: Path, threads: int = 1) -> SklearnBackend:
    return SklearnBackend(save(model, folder / "m.skops"), threads)


def double(values: Any) -> Any:
    return values * 2


@pytest.mark.parametrize(
    "model",
    [
        LogisticRegression(tol=0.1),
        RandomForestClassifier(5, random_state=0, n_jobs=2),
        GradientBoostingClassifier(n_estimators=3),
        HistGradientBoostingClassifier(max_iter=3, categorical_features=[3]),
        BaggingClassifier(DecisionTreeClassifier(), 3, max_features=0.5),
        CalibratedClassifierCV(GaussianNB(), cv=2),
        MLPClassifier((4,), max_iter=1500, tol=1e-2),
        StackingClassifier(
            [("tree", DecisionTreeClassifier(max_depth=2))], LogisticRegression(tol=0.1), cv=2, passthrough=True
        ),
        make_pipeline(StandardScaler(), PCA(2), RandomForestClassifier(3)),
        make_pipeline(make_pipeline(StandardScaler()), KNeighborsClassifier(algorithm="brute")),
    ],
    ids=lambda model: type(model).__name__,
)
@pytest.mark.parametrize("threads", [1, 2])
def test_classifiers(folder: Path, model: Any, threads: int) -> None:
    features = np.round(IRIS)  # whole numbers serve as categories too
    backend = open_backend(model.fit(features, NAMES), folder, threads)
    assert backend.inputs == (TensorSpec("features", DType.FP64, (None, 4)),)
    assert [(s.name, s.dtype, s.shape) for s in backend.outputs] == [
        ("label", DType.BYTES, (None,)),
        ("probabilities", DType.FP32, (None, 3)),
    ]
    assert backend.batched
    answer = backend.run({"features": features})
    assert answer["label"].tolist() == model.predict(features).tolist()
    assert answer["label"].dtype == object
    np.testing.assert_allclose(answer["probabilities"], model.predict_proba(features), rtol=1e-6)


@pytest.mark.parametrize(
    ("classes", "dtype"), [(SPECIES, DType.INT64), (SPECIES * 2.0, DType.INT64), (SPECIES / 2, DType.BYTES)]
)
def test_the_type_of_labels(folder: Path, classes: Any, dtype: DType) -> None:
    model = RandomForestClassifier(3, random_state=0).fit(
        IRIS, classes.astype(str) if dtype is DType.BYTES else classes
    )
    backend = open_backend(model, folder)
    assert backend.outputs[0].dtype is dtype
    label = backend.run({"features": IRIS})["label"]
    assert label.tolist() == model.predict(IRIS).tolist()


def test_the_label_is_what_the_model_decides_not_the_likeliest(folder: Path) -> None:
    model = FixedThresholdClassifier(LogisticRegression(tol=0.1), threshold=0.9).fit(IRIS, SPECIES == 1)
    answer = open_backend(model, folder).run({"features": IRIS})
    assert answer["label"].tolist() == model.predict(IRIS).astype(int).tolist()
    assert answer["label"].tolist() != answer["probabilities"].argmax(axis=1).tolist()


def test_a_classifier_without_probabilities(folder: Path) -> None:
    model = LinearSVC().fit(IRIS, SPECIES)
    backend = open_backend(model, folder)
    assert backend.outputs == (TensorSpec("label", DType.INT64, (None,)),)
    assert backend.run({"features": IRIS})["label"].tolist() == model.predict(IRIS).tolist()


@pytest.mark.parametrize("targets", [1, 3])
def test_regressors(folder: Path, targets: int) -> None:
    wanted = PROGRESS if targets == 1 else np.stack([PROGRESS] * targets, axis=1)
    for model in (LinearRegression().fit(DIABETES, wanted), ExtraTreesRegressor(3).fit(DIABETES, wanted)):
        backend = open_backend(model, folder)
        shape = (None,) if targets == 1 else (None, targets)
        assert backend.outputs == (TensorSpec("prediction", DType.FP64, shape),)
        assert backend.run({"features": DIABETES})["prediction"].tolist() == model.predict(DIABETES).tolist()
        assert backend.run({"features": DIABETES[:0]})["prediction"].shape == (0, *shape[1:])


def test_clusters_outliers_and_transformers(folder: Path) -> None:
    for model in (KMeans(3, n_init=1), IsolationForest(n_estimators=5, max_features=2)):
        backend = open_backend(model.fit(IRIS), folder)
        assert backend.outputs == (TensorSpec("label", DType.INT64, (None,)),)
        assert backend.run({"features": IRIS})["label"].tolist() == model.predict(IRIS).tolist()
    for step, columns in ((PCA(2), 2), (OneHotEncoder(), 3)):
        backend = open_backend(step.fit(IRIS[:, :1].round() if columns == 3 else IRIS), folder)
        given = IRIS[:, :1].round() if columns == 3 else IRIS
        answer = backend.run({"features": given})["features"]
        own = step.transform(given)
        assert answer.tolist() == (own.toarray() if columns == 3 else own).tolist()


@pytest.mark.parametrize("vectorizer", [TfidfVectorizer(), HashingVectorizer(n_features=64)])
def test_texts(folder: Path, vectorizer: Any) -> None:
    model = make_pipeline(vectorizer, LogisticRegression(tol=0.1)).fit(TEXTS, ["cat", "dog", "cat", "dog"])
    backend = open_backend(model, folder)
    assert backend.inputs == (TensorSpec("text", DType.BYTES, (None,)),)
    given = np.array([TEXTS[0], TEXTS[1].encode(), ""], object)
    answer = backend.run({"text": given})
    assert answer["label"].tolist() == model.predict([TEXTS[0], TEXTS[1], ""]).tolist()
    assert backend.run({"text": given[:0]})["probabilities"].shape == (0, 2)
    with pytest.raises(InvalidRows, match="row 1: input 'text': not UTF-8 text"):
        backend.run({"text": np.array(["a", b"\xff"], object)})


def test_a_vectoriser_that_opens_files_is_refused(folder: Path) -> None:
    (folder / "a.txt").write_text("some words")
    model = make_pipeline(TfidfVectorizer(input="filename"), DummyClassifier()).fit([str(folder / "a.txt")] * 2, [0, 1])
    with pytest.raises(InvalidModel, match="opens the files that callers name"):
        open_backend(model, folder)


def test_columns_by_name_come_in_their_order(folder: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="columns have names in its tables alone")
    table = pandas.DataFrame(IRIS, columns=list("abcd"))
    model = make_pipeline(StandardScaler(), RandomForestClassifier(3)).fit(table, SPECIES)
    answer = open_backend(model, folder).run({"features": IRIS})
    assert answer["label"].tolist() == model.predict(table).tolist()
    by_name = ColumnTransformer([("a", StandardScaler(), ["a", "b"])]).fit(table)
    with pytest.raises(InvalidModel, match="its ColumnTransformer takes a table with named columns"):
        open_backend(by_name, folder)


def test_categories_that_are_texts_are_refused(folder: Path) -> None:
    with pytest.raises(InvalidModel, match="its OneHotEncoder takes a table with named columns or texts"):
        open_backend(OneHotEncoder().fit(np.array([["red"], ["blue"]], object)), folder)


def test_several_labels_per_row_are_refused(folder: Path) -> None:
    twice = np.stack([SPECIES, SPECIES], axis=1)
    for model in (RandomForestClassifier(2), MultiOutputClassifier(LogisticRegression(tol=0.1))):
        with pytest.raises(InvalidModel, match="several labels per row"):
            open_backend(model.fit(IRIS, twice), folder)


def test_values_that_the_model_does_not_take(folder: Path) -> None:
    backend = open_backend(LogisticRegression(tol=0.1).fit(IRIS, SPECIES), folder)
    holes = IRIS.copy()
    holes[[3, 8], 1] = np.nan, np.inf
    with pytest.raises(InvalidRows, match=r"row 3: input 'features' holds NaN or infinity") as caught:
        backend.run({"features": holes})
    assert sorted(caught.value.rows) == [3, 8]
    codes = open_backend(OneHotEncoder().fit(IRIS.round()), folder)
    with pytest.raises(InvalidInput, match="unknown categories"):
        codes.run({"features": np.full((1, 4), 99.0)})


def test_nan_where_the_model_takes_it(folder: Path) -> None:
    model = HistGradientBoostingClassifier(max_iter=3).fit(IRIS, SPECIES)
    holes = IRIS.copy()
    holes[:, 2] = np.nan
    answer = open_backend(model, folder).run({"features": holes})
    assert answer["label"].tolist() == model.predict(holes).tolist()


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({}, "'features' is missing"),
        ({"features": np.ones((1, 3))}, r"has shape \[1, 3\]; the artifact takes \[any, 4\]"),
        ({"features": np.ones((1, 4), np.float32)}, "is of type float32; the artifact takes FP64"),
        ({"features": np.ones((1, 4)), "q": np.ones(1)}, "has no input 'q'"),
    ],
)
def test_wrong_tensors_are_the_callers_fault(folder: Path, columns: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        open_backend(LogisticRegression(tol=0.1).fit(IRIS, SPECIES), folder).run(columns)


@pytest.mark.parametrize("suffix", [".pkl", ".joblib"])
def test_pickles_only_by_name(folder: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = LogisticRegression(tol=0.1).fit(IRIS, SPECIES)
    path = folder / f"churn{suffix}"
    path.write_bytes(pickle.dumps(model)) if suffix == ".pkl" else joblib.dump(model, path, compress=3)
    with pytest.raises(InvalidModel, match=rf"^churn{suffix} is a pickle; .*skops.*FORWARDPASS_ALLOW_CODE=churn$"):
        create_backend(path, 1)
    monkeypatch.setenv(ALLOW_CODE, "other")
    with pytest.raises(InvalidModel, match="is refused"):
        create_backend(path, 1)
    monkeypatch.setenv(ALLOW_CODE, "churn")
    assert create_backend(path, 1).run({"features": IRIS})["label"].tolist() == model.predict(IRIS).tolist()


class Touch:
    """What a pickle may do: this one makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.path,)


def test_a_refused_pickle_has_run_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "m.pkl").write_bytes(pickle.dumps(Touch(folder / "touched")))
    with pytest.raises(InvalidModel, match="is a pickle"):
        create_backend(folder / "m.pkl", 1)
    assert not (folder / "touched").exists()
    monkeypatch.setenv(ALLOW_CODE, "m")
    with pytest.raises(InvalidModel, match="holds a NoneType, which is no scikit-learn estimator"):
        create_backend(folder / "m.pkl", 1)
    assert (folder / "touched").exists()


def test_other_types_are_refused_by_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(
        make_pipeline(FunctionTransformer(double), LogisticRegression(tol=0.1)).fit(IRIS, SPECIES), folder / "m.skops"
    )
    with pytest.raises(InvalidModel, match=r"^m\.skops holds types that are not trusted: \S*\.double\. .*_CODE=m$"):
        SklearnBackend(path, 1)
    path = save(KNeighborsClassifier().fit(IRIS, SPECIES), folder / "knn.skops")
    with pytest.raises(InvalidModel, match=r"sklearn\.neighbors\._kd_tree\.KDTree"):
        SklearnBackend(path, 1)
    monkeypatch.setenv(ALLOW_CODE, "knn")
    assert SklearnBackend(path, 1).run({"features": IRIS})["label"].shape == (150,)


def damaged_tree(change: Callable[[Any], None]) -> Any:
    model = RandomForestClassifier(2, random_state=0).fit(IRIS, SPECIES)
    change(model.estimators_[1])
    return model


def set_node(field: str, value: int) -> Callable[[Any], None]:
    def change(tree: Any) -> None:
        state = tree.tree_.__getstate__()
        state["nodes"][field][0] = value
        tree.tree_.__setstate__(state)

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (set_node("left_child", 10_000_000), "nodes that are not there"),
        (set_node("right_child", -5), "nodes that are not there"),
        (set_node("left_child", 0), "nodes that are not there"),
        (set_node("feature", 4), "columns that are not there"),
        (set_node("feature", -2), "columns that are not there"),
        (lambda tree: setattr(tree, "n_features_in_", 3), "over other columns than its own"),
    ],
)
def test_trees_that_would_crash_the_process(folder: Path, change: Callable[[Any], None], says: str) -> None:
    with pytest.raises(InvalidModel, match=rf"^m\.skops: a tree .*{says}; the file is damaged"):
        open_backend(damaged_tree(change), folder)


def test_an_ensemble_over_fewer_columns_than_its_trees(folder: Path) -> None:
    model = RandomForestClassifier(2).fit(IRIS, SPECIES)
    model.n_features_in_ = 2
    with pytest.raises(InvalidModel, match="over more columns than its ensemble takes"):
        open_backend(model, folder)
    boosted = GradientBoostingClassifier(n_estimators=2).fit(IRIS, SPECIES)
    boosted.n_trees_per_iteration_ = 1
    with pytest.raises(InvalidModel, match="more trees in a round than sums"):
        open_backend(boosted, folder)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("left", 9_999_999, "nodes that are not there"),
        ("right", 0, "nodes that are not there"),
        ("feature_idx", 77, "columns that are not there"),
    ],
)
def test_histogram_trees_that_would_crash_the_process(folder: Path, field: str, value: int, says: str) -> None:
    model = HistGradientBoostingClassifier(max_iter=2).fit(IRIS, SPECIES)
    model._predictors[1][2].nodes[field][0] = value
    with pytest.raises(InvalidModel, match=says):
        open_backend(model, folder)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04no", b"\x80pickle", "cut", None])
def test_what_is_no_artifact(folder: Path, content: Any) -> None:
    path = folder / "m.skops"
    if content == "cut":
        path.write_bytes(save(LogisticRegression(tol=0.1).fit(IRIS, SPECIES), folder / "w.skops").read_bytes()[:-200])
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidModel, match=r"^m\.skops: scikit-learn cannot load it: ") as caught:
        SklearnBackend(path, 1)
    assert "\n" not in caught.value.message


def test_what_is_no_fitted_estimator(folder: Path) -> None:
    with pytest.raises(InvalidModel, match="holds a dict, which is no scikit-learn estimator"):
        open_backend({"a": 1}, folder)
    for model in (
        LogisticRegression(tol=0.1),
        RandomForestClassifier(),
        make_pipeline(StandardScaler(), LinearRegression()),
    ):
        with pytest.raises(InvalidModel, match=r"fitted"):
            open_backend(model, folder)
    with pytest.raises(InvalidModel, match="remove `precision: fp16`"):
        SklearnBackend(folder / "m.skops", 1, BackendConfig(precision="fp16"))


@pytest.mark.slow
def test_a_fork_of_a_process_that_imported_the_library(folder: Path) -> None:
    """As workers are started: libraries with threads of their own hang where they ran before the fork."""
    path = save(HistGradientBoostingClassifier(max_iter=3).fit(IRIS, SPECIES), folder / "m.skops")
    code = (
        "import os, numpy, pathlib\n"
        "from forwardpass.backends.sklearn import SklearnBackend\n"
        "if pid := os.fork():\n"
        "    raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
        f"backend = SklearnBackend(pathlib.Path({str(path)!r}), 2)\n"
        "answer = backend.run({'features': numpy.ones((1000, 4))})\n"
        "os._exit(7 if answer['probabilities'].shape == (1000, 3) else 1)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=50).returncode == 7
