"""One small artifact for every backend, for the suite that all of them must pass.

A maker takes an empty folder, writes an artifact whose first axis is rows, and returns it with the
configuration to open it with. It skips where its library is not installed or cannot run here. The
first word of its key is the backend's name; further words tell variants apart.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests import artifacts

from forwardpass.config import BackendConfig
from forwardpass.types import Array

Made = tuple[Path, BackendConfig]


def onnxruntime(folder: Path) -> Made:
    return artifacts.affine(folder / "m.onnx"), BackendConfig("onnxruntime")


def onnxruntime_openvino(folder: Path) -> Made:
    pytest.importorskip("onnxruntime_ep_openvino", reason="needs OpenVINO's provider for ONNX Runtime")
    from forwardpass.backends.onnx import _plugin_devices

    if not _plugin_devices():
        pytest.skip("OpenVINO's provider runs on Intel's CPUs alone")
    return artifacts.affine(folder / "m.onnx"), BackendConfig("onnxruntime-openvino")


def openvino(folder: Path) -> Made:
    pytest.importorskip("openvino", reason="needs OpenVINO")
    return artifacts.affine(folder / "m.onnx"), BackendConfig("openvino")


def openvino_bf16(folder: Path) -> Made:
    library = pytest.importorskip("openvino", reason="needs OpenVINO")
    if "BF16" not in library.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this CPU does not compute in bf16")
    return artifacts.affine(folder / "m.onnx"), BackendConfig("openvino", precision="bf16")


def openvino_ir(folder: Path) -> Made:
    library = pytest.importorskip("openvino", reason="needs OpenVINO")
    model = library.Core().read_model(artifacts.affine(folder / "m.onnx"))
    library.save_model(model, folder / "m.xml", compress_to_fp16=False)
    return folder / "m.xml", BackendConfig("openvino")


def numbers() -> tuple[Array, Array]:
    features = np.random.default_rng(0).standard_normal((200, 4))
    return features, (features.sum(axis=1) > 0).astype(int)


def sklearn(folder: Path) -> Made:
    pytest.importorskip("skops", reason="needs scikit-learn and skops")
    import skops.io
    from sklearn.ensemble import RandomForestClassifier

    skops.io.dump(RandomForestClassifier(5, random_state=0).fit(*numbers()), folder / "m.skops")
    return folder / "m.skops", BackendConfig("sklearn")


def sklearn_regressor(folder: Path) -> Made:
    pytest.importorskip("skops", reason="needs scikit-learn and skops")
    import skops.io
    from sklearn.linear_model import LinearRegression

    skops.io.dump(LinearRegression().fit(*numbers()), folder / "m.skops")
    return folder / "m.skops", BackendConfig("sklearn")


def sklearn_text(folder: Path) -> Made:
    pytest.importorskip("skops", reason="needs scikit-learn and skops")
    import skops.io
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.naive_bayes import MultinomialNB
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(TfidfVectorizer(token_pattern="."), MultinomialNB())
    skops.io.dump(model.fit(["a", "b", "ab"], ["x", "y", "x"]), folder / "m.skops")
    return folder / "m.skops", BackendConfig("sklearn")


def xgboost(folder: Path) -> Made:
    library = pytest.importorskip("xgboost", reason="needs XGBoost")
    parameters = {"objective": "binary:logistic", "nthread": 1}
    library.train(parameters, library.DMatrix(*numbers()), 5).save_model(folder / "m.ubj")
    return folder / "m.ubj", BackendConfig("xgboost")


def lightgbm(folder: Path) -> Made:
    library = pytest.importorskip("lightgbm", reason="needs LightGBM")
    parameters = {"objective": "binary", "num_threads": 1, "verbosity": -1}
    library.train(parameters, library.Dataset(*numbers()), 5).save_model(folder / "m.lightgbm.txt")
    return folder / "m.lightgbm.txt", BackendConfig("lightgbm")


def litert(folder: Path) -> Made:
    pytest.importorskip("ai_edge_litert", reason="needs LiteRT")
    from tests.backends.test_litert import dense

    return dense(folder / "m.tflite"), BackendConfig("litert")


MAKERS: dict[str, Callable[[Path], Made]] = {
    "onnxruntime": onnxruntime,
    "onnxruntime-openvino": onnxruntime_openvino,
    "openvino": openvino,
    "openvino bf16": openvino_bf16,
    "openvino ir": openvino_ir,
    "sklearn": sklearn,
    "sklearn regressor": sklearn_regressor,
    "sklearn text": sklearn_text,
    "xgboost": xgboost,
    "lightgbm": lightgbm,
    "litert": litert,
}
