"""How the files of artifacts are called, which backend runs each, and what to do with those that none runs.

Goes by names alone, and by which files are there; opens none.
"""

from __future__ import annotations

from pathlib import Path

# How an artifact's name ends, and the backend that runs it unless model.yaml names another.
ARTIFACTS = {
    ".onnx": "onnxruntime",
    ".xml": "openvino",
    ".pt2": "torch",
    ".skops": "sklearn",
    ".pkl": "sklearn",
    ".joblib": "sklearn",
    ".xgboost.json": "xgboost",
    ".ubj": "xgboost",
    ".lightgbm.txt": "lightgbm",
    ".tflite": "litert",
}

_TORCH = (
    "a PyTorch pickle, which runs code when it is loaded; export it as .pt2: "
    "torch.export.save(torch.export.export(model, args), 'model.pt2')"
)
_KERAS = "a Keras model, which may hold code; convert it to .tflite (tf.lite.TFLiteConverter) or to .onnx (tf2onnx)"
_TENSORFLOW = "a TensorFlow graph; convert it to .onnx (tf2onnx) or to .tflite (tf.lite.TFLiteConverter)"
_PICKLE = (
    "a pickle, which runs code when it is loaded; save scikit-learn models with skops.io.dump(model, 'model.skops')"
)
_WEIGHTS = "weights without the network they belong to; export the whole model as .onnx or .pt2"
_LIBRARY = "compiled code, which is not loaded; export the model itself as .onnx"
_BUILT = "built for one GPU and one version of TensorRT; serve the .onnx that it was built from"

# How the name of a file that people take for an artifact ends, and what to do with it instead.
HINTS = {
    ".pt": _TORCH,
    ".pth": _TORCH,
    ".ckpt": _TORCH,
    ".h5": _KERAS,
    ".hdf5": _KERAS,
    ".keras": _KERAS,
    ".pb": _TENSORFLOW,
    ".pickle": _PICKLE,
    ".dill": _PICKLE,
    ".cloudpickle": _PICKLE,
    ".bin": f"{_WEIGHTS} (beside an .xml, they are OpenVINO's: give the .xml)",
    ".safetensors": _WEIGHTS,
    ".npz": _WEIGHTS,
    ".so": _LIBRARY,
    ".dll": _LIBRARY,
    ".engine": _BUILT,
    ".plan": _BUILT,
    ".mlmodel": "a Core ML model, which runs on Apple's systems alone; export the model as .onnx",
    ".ort": "ONNX Runtime's own format, for one build of it; serve the .onnx that it was made from",
    ".json": "perhaps an XGBoost model: name it .xgboost.json, or set `backend: {name: xgboost}` in model.yaml",
    ".txt": "perhaps a LightGBM model: name it .lightgbm.txt, or set `backend: {name: lightgbm}` in model.yaml",
    ".model": "perhaps an XGBoost model in its old format; save it again: booster.save_model('model.ubj')",
}


def artifact_suffix(path: Path) -> str | None:
    """The end of an artifact's name that ``ARTIFACTS`` has; None for a file that is none."""
    ends = [suffix for suffix in ARTIFACTS if path.name.endswith(suffix)]
    return max(ends, key=len, default=None)


def artifact_files(artifact: Path) -> list[Path]:
    """An artifact and its weights that lie apart: the ``.bin`` of an OpenVINO model, external data of an ONNX one."""
    apart = [artifact.with_suffix(".bin")] if artifact.suffix == ".xml" else []
    apart += [artifact.with_name(artifact.name + ending) for ending in (".data", "_data")]
    return [artifact, *(file for file in apart if file.is_file())]


def hint_for(path: Path) -> str:
    """What a file of a known but refused format is, and what to do; empty for artifacts and for any other file."""
    return "" if artifact_suffix(path) else HINTS.get(path.suffix.lower(), "")
