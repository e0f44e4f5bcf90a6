"""ONNX Runtime: runs ``.onnx`` artifacts, on the CPU or by one of its execution providers.

The only module that imports ``onnxruntime``. Takes and gives every tensor type of
``types.DType``; refuses sequences, maps and other element types by name when it loads. Knows no
``model.yaml`` and no requests.
"""

from __future__ import annotations

import ctypes
import json
import re
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from forwardpass.backends.axes import is_batched
from forwardpass.backends.base import Backend
from forwardpass.config import BackendConfig
from forwardpass.errors import BackendFailed, ForwardpassError, InvalidInput, InvalidModel, InvalidRows
from forwardpass.types import Array, Columns, DType, TensorSpec

_DTYPES = {
    "tensor(bool)": DType.BOOL,
    "tensor(uint8)": DType.UINT8,
    "tensor(uint16)": DType.UINT16,
    "tensor(uint32)": DType.UINT32,
    "tensor(uint64)": DType.UINT64,
    "tensor(int8)": DType.INT8,
    "tensor(int16)": DType.INT16,
    "tensor(int32)": DType.INT32,
    "tensor(int64)": DType.INT64,
    "tensor(float16)": DType.FP16,
    "tensor(bfloat16)": DType.BF16,
    "tensor(float)": DType.FP32,
    "tensor(double)": DType.FP64,
    "tensor(string)": DType.BYTES,
}
_ONNX_BFLOAT16 = 16  # onnx.TensorProto.BFLOAT16

# The library has no common base for its errors.
_ORT_ERRORS: tuple[type[Exception], ...] = (
    *(item for item in vars(ort_errors).values() if isinstance(item, type) and issubclass(item, Exception)),
    RuntimeError,
    ValueError,
    TypeError,
)


# Where each backend of this module runs, and the precisions in which it can.
_PRECISIONS = {
    "onnxruntime": ("fp32",),
    "onnxruntime-openvino": ("fp32", "bf16", "fp16"),
    "onnxruntime-cuda": ("fp32",),
    "onnxruntime-tensorrt": ("fp32", "bf16", "fp16"),
}
_GPU_PROVIDERS = {"onnxruntime-cuda": "CUDAExecutionProvider", "onnxruntime-tensorrt": "TensorrtExecutionProvider"}
_OPENVINO_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}


class OnnxBackend(Backend):
    """One ONNX session; ``name`` says with which execution provider, and what that lacks the CPU runs.

    ``run`` takes native byte order. BYTES tensors go in as ``str`` or as UTF-8 ``bytes`` and come
    out as ``str``. Axes that the artifact names, or leaves unnamed, are free.
    """

    name = "onnxruntime"

    def __init__(self, artifact: Path, threads: int, config: BackendConfig | None = None) -> None:
        """Load an artifact to compute with ``threads`` threads; ``InvalidModel`` if it cannot be used."""
        config = config or BackendConfig()
        self.name = config.name or OnnxBackend.name  # one class, several names
        session = _create_session(artifact, threads, self.name, config)
        self.inputs = tuple(_spec(artifact, "input", arg) for arg in session.get_inputs())
        self.outputs = tuple(_spec(artifact, "output", arg) for arg in session.get_outputs())
        self.batched = is_batched(
            [tuple(arg.shape) for arg in session.get_inputs()], [tuple(arg.shape) for arg in session.get_outputs()]
        )
        self._names = [spec.name for spec in self.outputs]
        self._session = session
        self._options = onnxruntime.RunOptions()
        self._options.log_severity_level = 4  # what fails is raised; the library would also print it
        self._texts = tuple(spec for spec in self.inputs if spec.dtype is DType.BYTES)
        self._run: Callable[..., list[Any]] = session.run
        if any(spec.dtype is DType.BF16 for spec in (*self.inputs, *self.outputs)):
            if self._texts:
                raise InvalidModel(f"{artifact.name}: text inputs together with BF16 tensors cannot be run; use FP32")
            self._run = self._run_bfloat16

    def run(self, columns: Columns) -> Columns:
        try:
            if self._texts:
                columns = {**columns, **{spec.name: self._decoded(spec, columns) for spec in self._texts}}
            return dict(zip(self._names, self._run(self._names, columns, self._options), strict=True))
        except _ORT_ERRORS as reason:
            raise _run_error(reason) from None

    def close(self) -> None:
        del self._session, self._run  # the session is freed with its last reference

    def _decoded(self, spec: TensorSpec, columns: Columns) -> Array:
        """Texts as ``str``, which is all that the library takes."""
        if spec.name not in columns:
            raise InvalidInput(f"input {spec.name!r} is missing")
        array = columns[spec.name]
        texts = np.empty(array.size, object)
        per_row = (array.size // len(array) if array.ndim and len(array) else 1) or 1
        for index, value in enumerate(array.flat):
            try:
                texts[index] = value if isinstance(value, str) else bytes.decode(value)
            except UnicodeDecodeError as reason:
                wrong = (
                    f"input {spec.name!r}: not UTF-8 text (byte {reason.start}: {value[reason.start : reason.end]!r})"
                )
                raise InvalidRows({index // per_row: wrong}) from None
        return texts.reshape(array.shape)

    def _run_bfloat16(self, names: list[str], columns: Columns, options: Any) -> list[Array]:
        """``session.run`` for models that have BF16 tensors, which the library cannot take or give as numpy."""
        types = {spec.name: spec.dtype for spec in self.inputs}
        values = {name: _to_ort(array, types.get(name)) for name, array in columns.items()}
        answers = self._session.run_with_ort_values(names, values, options)
        return [_from_ort(value, spec.dtype) for value, spec in zip(answers, self.outputs, strict=True)]


def _create_session(artifact: Path, threads: int, name: str, config: BackendConfig) -> Any:
    _check_choice(artifact, name, config)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    try:
        if name == "onnxruntime-openvino":
            devices = _openvino_devices(artifact)
            options.add_provider_for_devices(devices, {"load_config": _openvino_config(threads, config.precision)})
            return onnxruntime.InferenceSession(str(artifact), options)
        if name in _GPU_PROVIDERS:
            return _create_gpu_session(artifact, options, _GPU_PROVIDERS[name], config.precision)
        return onnxruntime.InferenceSession(str(artifact), options, providers=["CPUExecutionProvider"])
    except _ORT_ERRORS as reason:
        raise InvalidModel(f"{artifact.name}: {_load_problem(artifact, str(reason))}") from None


def _check_choice(artifact: Path, name: str, config: BackendConfig) -> None:
    """Whether the backend computes so, and there; the library would quietly do something else."""
    able = _PRECISIONS[name]
    if config.precision not in able:
        others = [other for other, precisions in _PRECISIONS.items() if config.precision in precisions]
        raise InvalidModel(
            f"{artifact.name}: the backend {name!r} computes in {' or '.join(able)}, not in {config.precision}: "
            f"use `openvino`, {', '.join(f'`{other}`' for other in others)}, or an artifact converted to it"
        )
    if config.device == "cuda" and name not in _GPU_PROVIDERS:
        raise InvalidModel(f"{artifact.name}: the backend {name!r} runs on the CPU; for a GPU name `onnxruntime-cuda`")


def _create_gpu_session(artifact: Path, options: Any, provider: str, precision: str) -> Any:
    """A session on the GPU; where its libraries do not load, the library would quietly use the CPU."""
    if provider not in onnxruntime.get_available_providers():
        raise InvalidModel(
            f"{artifact.name}: the installed onnxruntime has no {provider}: "
            "pip uninstall onnxruntime, then pip install onnxruntime-gpu"
        )
    settings = {} if precision == "fp32" else {f"trt_{precision}_enable": "1"}
    providers = [(provider, settings), "CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(str(artifact), options, providers=providers)
    if session.get_providers()[0] != provider:
        raise InvalidModel(f"{artifact.name}: {provider} does not start here; is there a GPU, with its CUDA libraries?")
    return session


def _openvino_devices(artifact: Path) -> list[Any]:
    found = [device for device in _plugin_devices() if device.ep_metadata.get("ov_device") == "CPU"]
    if not found:
        raise InvalidModel(
            f"{artifact.name}: OpenVINO's provider for ONNX Runtime finds no CPU that it runs on (it takes Intel's "
            "alone); use the backend `openvino`, which runs on others as well"
        )
    return found[:1]


@cache
def _plugin_devices() -> tuple[Any, ...]:
    """What the plugin offers. A process may register it once."""
    plugin = import_module("onnxruntime_ep_openvino")
    name = plugin.get_ep_name()
    onnxruntime.register_execution_provider_library(name, plugin.get_library_path())
    return tuple(device for device in onnxruntime.get_ep_devices() if device.ep_name == name)


def _openvino_config(threads: int, precision: str) -> str:
    """Settings of OpenVINO; left to itself it computes in bf16 where the CPU can."""
    return json.dumps(
        {
            "CPU": {
                "INFERENCE_PRECISION_HINT": _OPENVINO_HINTS[precision],
                "INFERENCE_NUM_THREADS": str(threads),
                "NUM_STREAMS": "1",
                "ENABLE_CPU_PINNING": "NO",  # workers share the cores
            }
        }
    )


def _spec(artifact: Path, kind: str, arg: Any) -> TensorSpec:
    if arg.type in _DTYPES:
        shape = tuple(axis if isinstance(axis, int) else None for axis in arg.shape)
        return TensorSpec(arg.name, _DTYPES[arg.type], shape)
    if kind == "output" and "map(" in arg.type:
        hint = "export the classifier with `zipmap=False` (skl2onnx: options={'zipmap': False})"
    elif kind == "output" and arg.type.startswith("seq("):
        hint = "export the model so that it gives tensors (a classifier: with `zipmap=False`)"
    else:
        hint = f"export the model with one of {', '.join(DType)}"
    raise InvalidModel(f"{artifact.name}: {kind} {arg.name!r} is of type {arg.type}, which cannot be served; {hint}")


def _to_ort(array: Array, dtype: DType | None) -> Any:
    if dtype is not DType.BF16:
        return onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))
    # This call reads the buffer as if it were contiguous, and takes any type of the same width.
    column = np.array(array, dtype=DType.BF16.numpy, order="C", copy=None)
    return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(column, _ONNX_BFLOAT16)


def _from_ort(value: Any, dtype: DType) -> Array:
    if dtype is not DType.BF16:
        return np.asarray(value.numpy())
    shape = tuple(value.shape())
    size = int(np.prod(shape)) * 2
    data = bytearray(ctypes.string_at(value.data_ptr(), size) if size else b"")
    return np.frombuffer(data, DType.BF16.numpy).reshape(shape)


def _run_error(reason: Exception) -> ForwardpassError:
    text = str(reason)
    if isinstance(reason, UnicodeEncodeError):
        return InvalidInput(f"a text holds characters that are not valid Unicode ({reason.reason})")
    callers = isinstance(reason, ort_errors.InvalidArgument) or text.startswith("Required inputs")
    if callers or re.search(r"dimension|shape|broadcast|\brank\b", text, re.IGNORECASE):
        return InvalidInput(f"the artifact cannot run this input: {_short(text)}")
    return BackendFailed(f"the artifact failed: {_short(text)}")


def _load_problem(artifact: Path, text: str) -> str:
    """What is wrong with an artifact that does not load, and what to do."""
    if not artifact.is_file():
        return f"there is no such file in {artifact.parent}"
    if "Protobuf parsing failed" in text or "No graph was found" in text:
        return "is not an ONNX file, or is cut short"
    if operator := re.search(r"Fatal error: (\S*?)\(-?\d+\) is not a registered function", text):
        return f"uses the custom operator {operator[1]!r}; libraries of custom operators are not loaded"
    if operator := re.search(r"No Op registered for (\S+) with domain_version of (\d+)", text):
        return f"uses the operator {operator[1]!r}, which opset {operator[2]} of ONNX Runtime does not have"
    if "escapes model directory" in text or "Absolute path not allowed" in text:
        return "keeps its weights in a file outside its folder, which is refused; move them beside it"
    if "External data path does not exist" in text:
        return f"keeps its weights in another file, which is missing: {Path(text.split(chr(34))[1]).name}"
    return f"ONNX Runtime cannot load it: {_short(text)}"


_NOISE = (
    r"\[ONNXRuntimeError\] : \d+ : \w+ : ",
    r"Non-zero status code returned while running ",
    r"Name:'' ?",
    r"Status Message: ",
    r"\S+\.(?:h|cc|cpp|hpp):\d+ (?:.*? was false\. ?)?",  # a C++ file and line, and the condition it checked
    r"\S[^()]*::[^()]*\((?:[^()]|\([^()]*\))*\)(?: const)? ",  # a C++ function
    r"Please fix either the inputs/outputs or the model\.",
)


def _short(text: str) -> str:
    """The library's message in one line of at most 300 characters, without its source files."""
    for noise in _NOISE:
        text = re.sub(noise, "", text, flags=re.DOTALL)
    line = " ".join(text.split()).rstrip(". ")
    return line if len(line) <= 300 else line[:299] + "…"
