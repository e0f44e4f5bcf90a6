"""OpenVINO: runs ``.onnx`` artifacts and its own IR (``.xml`` with its ``.bin``) on the CPU.

The only module that imports ``openvino``. The library drops what does not fit instead of refusing
it, so that shapes are checked here before every run. Takes every type of ``types.DType`` but text,
and computes FP64 as FP32; loads no extensions. Knows no ``model.yaml`` and no requests.
"""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from forwardpass.backends.axes import Axes, is_batched, read_onnx_axes
from forwardpass.backends.base import Backend
from forwardpass.backends.checks import check_columns
from forwardpass.config import BackendConfig
from forwardpass.errors import BackendFailed, InvalidInput, InvalidModel
from forwardpass.types import Array, Columns, DType, TensorSpec

_DTYPES = {
    "boolean": DType.BOOL,
    "u8": DType.UINT8,
    "u16": DType.UINT16,
    "u32": DType.UINT32,
    "u64": DType.UINT64,
    "i8": DType.INT8,
    "i16": DType.INT16,
    "i32": DType.INT32,
    "i64": DType.INT64,
    "f16": DType.FP16,
    "bf16": DType.BF16,
    "f32": DType.FP32,
    "f64": DType.FP64,
}
_PRECISIONS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
_FRONTENDS = {".onnx": "onnx", ".xml": "ir"}  # the library would try every format it knows
_NARROWED = (DType.INT64, DType.UINT64)  # the library computes with these in 32 bits on the CPU, and wraps
_SHAPES_KEPT = 4096

# The library has no common base for its errors.
_OPENVINO_ERRORS: tuple[type[Exception], ...] = (
    openvino.frontend.NotImplementedFailure,
    openvino.frontend.InitializationFailure,
    openvino.frontend.OpConversionFailure,
    openvino.frontend.OpValidationFailure,
    openvino.frontend.GeneralFailure,
    RuntimeError,
    ValueError,
    TypeError,
)


class OpenVinoBackend(Backend):
    """One compiled model with one stream on the CPU.

    Answers are the caller's to keep. Compiled models are cached where the user made the folder
    ``$XDG_CACHE_HOME/forwardpass/openvino`` (or ``~/.cache/…``).
    """

    name = "openvino"

    def __init__(self, artifact: Path, threads: int, config: BackendConfig | None = None) -> None:
        """Load an artifact to compute with ``threads`` threads; ``InvalidModel`` if it cannot be used."""
        config = config or BackendConfig()
        model = _read(artifact)
        axes = _named_axes(artifact)
        self._input_axes = [_axes(port, axes) for port in model.inputs]
        output_axes = [_axes(port, axes) for port in model.outputs]
        self.inputs = tuple(map(partial(_spec, artifact, "input"), model.inputs, self._input_axes))
        self.outputs = tuple(map(partial(_spec, artifact, "output"), model.outputs, output_axes))
        self.batched = is_batched(self._input_axes, output_axes)
        self._limits = [
            _limits(spec, parameter) for spec, parameter in zip(self.inputs, model.get_parameters(), strict=True)
        ]
        self._request = _compile(artifact, model, threads, config).create_infer_request()
        # Where only the number of rows is free, every shape that is allowed fits inside as well.
        inner = [axis for axes in self._input_axes for axis in axes[self.batched :]]
        self._model = None if all(isinstance(axis, int) for axis in inner) else model
        self._fitting: set[tuple[tuple[int, ...], ...]] = set()

    def run(self, columns: Columns) -> Columns:
        arrays = self._checked(columns)
        try:
            for index, (spec, array) in enumerate(zip(self.inputs, arrays, strict=True)):
                self._request.set_input_tensor(index, _tensor(spec, array))
            self._request.infer()
            return {spec.name: self._answer(index, spec) for index, spec in enumerate(self.outputs)}
        except _OPENVINO_ERRORS as reason:
            raise BackendFailed(f"the artifact failed: {_short(str(reason))}") from None

    def close(self) -> None:
        del self._request, self._model

    def _checked(self, columns: Columns) -> list[Array]:
        """The inputs in order, readable in place; ``InvalidInput`` where they are not what the artifact takes."""
        check_columns(columns, self.inputs)
        arrays = [columns[spec.name] for spec in self.inputs]
        lengths: dict[str, int] = {}
        for spec, axes, limits, array in zip(self.inputs, self._input_axes, self._limits, arrays, strict=True):
            _check_lengths(spec, axes, array.shape, lengths)
            if limits and array.size and (array.min() < limits[0] or array.max() > limits[1]):
                raise InvalidInput(f"input {spec.name!r}: every value must lie between {limits[0]} and {limits[1]}")
        if self._model is not None:
            self._check_inside(tuple(array.shape for array in arrays))
        return [_readable(array) for array in arrays]

    def _check_inside(self, shapes: tuple[tuple[int, ...], ...]) -> None:
        """Whether shapes fit all through the graph: what does not, the library runs and answers with garbage."""
        key = tuple(shape[self.batched :] for shape in shapes)
        if key in self._fitting:
            return
        rows = [-1] if self.batched else []  # any number
        wanted = {index: openvino.PartialShape([*rows, *axes]) for index, axes in enumerate(key)}
        try:
            self._model.reshape(wanted)  # type: ignore[union-attr]
        except _OPENVINO_ERRORS as reason:
            raise InvalidInput(f"the artifact cannot run this input: {_short(str(reason))}") from None
        if len(self._fitting) >= _SHAPES_KEPT:
            self._fitting.clear()
        self._fitting.add(key)

    def _answer(self, index: int, spec: TensorSpec) -> Array:
        """A copy: the next run writes into the same memory."""
        data: Array = self._request.get_output_tensor(index).data.copy()
        return data.view(spec.dtype.numpy) if spec.dtype is DType.BF16 else data


def _read(artifact: Path) -> Any:
    if not artifact.is_file():
        raise InvalidModel(f"{artifact.name}: there is no such file in {artifact.parent}")
    if artifact.suffix not in _FRONTENDS:
        raise InvalidModel(f"{artifact.name}: OpenVINO runs {' and '.join(_FRONTENDS)} files, not {artifact.suffix!r}")
    weights = artifact.with_suffix(".bin")
    if artifact.suffix == ".xml" and not weights.resolve().is_relative_to(artifact.parent.resolve()):
        raise InvalidModel(f"{artifact.name}: {weights.name} is a link out of its folder, which is refused")
    try:
        frontend = openvino.frontend.FrontEndManager().load_by_framework(_FRONTENDS[artifact.suffix])
        model = frontend.convert(frontend.load(str(artifact)))
    except _OPENVINO_ERRORS as reason:
        raise InvalidModel(f"{artifact.name}: {_load_problem(artifact, str(reason))}") from None
    if not model.outputs:
        raise InvalidModel(f"{artifact.name}: is not an ONNX file, or is cut short")
    return model


def _compile(artifact: Path, model: Any, threads: int, config: BackendConfig) -> Any:
    core = openvino.Core()
    able = {item.lower() for item in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")}
    if config.device != "cpu":
        raise InvalidModel(f"{artifact.name}: OpenVINO runs on the CPU here, not on {config.device!r}")
    if config.precision not in able:  # the library would quietly take another
        known = ", ".join(name for name in _PRECISIONS if name in able)
        raise InvalidModel(f"{artifact.name}: this CPU does not compute in {config.precision}; use one of: {known}")
    settings = {
        "INFERENCE_PRECISION_HINT": _PRECISIONS[config.precision],
        "PERFORMANCE_HINT": "LATENCY",
        "EXECUTION_MODE_HINT": "PERFORMANCE",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,  # workers share the cores
    }
    if config.precision == "fp32":
        settings["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = 0  # else int8 weights make it quantise what flows as well
    if os.access(cache := _cache_folder(), os.W_OK):
        settings["CACHE_DIR"] = str(cache)
    try:
        return core.compile_model(model, "CPU", settings)
    except _OPENVINO_ERRORS as reason:
        raise InvalidModel(f"{artifact.name}: OpenVINO cannot compile it: {_short(str(reason))}") from None


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "forwardpass" / "openvino"


def _named_axes(artifact: Path) -> dict[str, Axes]:
    """What the library drops: the names of axes. IR does not hold them."""
    if artifact.suffix != ".onnx":
        return {}
    try:
        return read_onnx_axes(artifact)
    except ValueError:
        return {}  # the library reads more than we do


def _axes(port: Any, named: dict[str, Axes]) -> Axes:
    """The axes of a port: fixed where the library knows the length, else as the file names them."""
    own = [axis.get_length() if axis.is_static else None for axis in port.partial_shape]
    given = named.get(_name(port), ())
    if len(given) != len(own):
        return tuple(own)
    return tuple(name if axis is None else axis for axis, name in zip(own, given, strict=True))


def _name(port: Any) -> str:
    names = port.get_names()
    return min(names) if names else str(port.get_node().get_friendly_name())


def _spec(artifact: Path, kind: str, port: Any, axes: Axes) -> TensorSpec:
    element = port.element_type.get_type_name()
    if element in _DTYPES:
        shape = tuple(axis if isinstance(axis, int) else None for axis in axes)
        return TensorSpec(_name(port), _DTYPES[element], shape)
    hint = "use the backend `onnxruntime`" if element == "string" else f"export it with one of {', '.join(DType)}"
    raise InvalidModel(
        f"{artifact.name}: {kind} {_name(port)!r} is of type {element}, which OpenVINO cannot serve; {hint}"
    )


def _limits(spec: TensorSpec, parameter: Any) -> tuple[int, int] | None:
    """What values the library computes rightly with: of ids, those in the table that they are looked up in.

    For an id outside it the library answers with zeros, where the ONNX standard has an error.
    """
    if spec.dtype.is_float or spec.dtype is DType.BOOL:
        return None
    size, nodes = 2**31, [parameter]
    while nodes:
        for target in nodes.pop().output(0).get_target_inputs():
            node = target.get_node()
            if node.get_type_name() in ("Convert", "Squeeze", "Unsqueeze", "Reshape") and target.get_index() == 0:
                nodes.append(node)
            elif node.get_type_name() == "Gather" and target.get_index() == 1:
                size = min(size, _table_size(node))
    return (-size, size - 1) if size < 2**31 or spec.dtype in _NARROWED else None


def _table_size(gather: Any) -> int:
    axis = gather.input_value(2).get_node()
    table = gather.input_value(0).get_partial_shape()
    if axis.get_type_name() != "Constant" or table.rank.is_dynamic or table[at := int(axis.data.item())].is_dynamic:
        return 2**31
    return int(table[at].get_length())


def _check_lengths(spec: TensorSpec, axes: Axes, shape: tuple[int, ...], lengths: dict[str, int]) -> None:
    """Axes of one name have one length; ``lengths`` gathers them from input to input."""
    for number, (axis, size) in enumerate(zip(axes, shape, strict=True)):
        if isinstance(axis, str) and lengths.setdefault(axis, size) != size:
            raise InvalidInput(
                f"input {spec.name!r}: axis {number}, {axis!r}, has the length {size}, and elsewhere {lengths[axis]}"
            )


def _readable(array: Array) -> Array:
    """The library reads in place, and only what it could write to."""
    return array if array.flags.c_contiguous and array.flags.writeable else np.array(array, order="C")


def _tensor(spec: TensorSpec, array: Array) -> Any:
    if spec.dtype is not DType.BF16:
        return openvino.Tensor(array, shared_memory=True)
    return openvino.Tensor(array.view(np.float16), array.shape, openvino.Type.bf16)  # any type of that width


def _load_problem(artifact: Path, text: str) -> str:
    """What is wrong with an artifact that does not load, and what to do."""
    if operators := re.search(r"No conversion rule found for operations: (.*)", text):
        names = operators[1].replace("util::", "").strip()
        return f"uses operators that OpenVINO does not have: {names}; use the backend `onnxruntime`"
    if operator := re.search(r"(\w+) doesn't contain the operation with type: (\S+)", text):
        return f"uses the operator {operator[2]!r}, which {operator[1]} of OpenVINO does not have"
    if "outside the base directory" in text:
        return "keeps its weights in a file outside its folder, which is refused; move them beside it"
    if missing := re.search(r"invalid external data: \w+\(data_full_path: ([^,]*)", text):
        return f"keeps its weights in another file, which is missing or cut short: {Path(missing[1]).name}"
    if "bin file cannot be found" in text:
        return f"its weights are missing: {artifact.with_suffix('.bin').name}"
    if "Incorrect weights in bin file" in text:
        return f"its weights are cut short, or another model's: {artifact.with_suffix('.bin').name}"
    if "can't be parsed" in text or "Error parsing" in text or "status_ok" in text:
        return f"is not {'an ONNX file' if artifact.suffix == '.onnx' else 'OpenVINO IR'}, or is cut short"
    return f"OpenVINO cannot load it: {_short(text)}"


def _short(text: str) -> str:
    """The library's message in one line of at most 300 characters, without its source files."""
    text = re.sub(r"Exception from \S+:\d+:|Check '.*?' failed at \S+:\d+:|FrontEnd API failed with \w+:", "", text)
    text = re.sub(r"While validating node '\S+ (\S+) .*' with friendly_name '[^']*':", r"\1:", text)
    line = " ".join(text.split()).rstrip(". ")
    return line if len(line) <= 300 else line[:299] + "…"
