"""LiteRT: runs ``.tflite`` artifacts on the CPU.

The only module that imports ``ai_edge_litert``. Runs the operators that LiteRT itself has; no delegates and no custom
operators are loaded. Quantised tensors go in and come out as the integers they are. Knows no ``model.yaml`` and no
requests.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from forwardpass.backends.base import Backend
from forwardpass.backends.checks import check_columns, empty_columns, one_line, require_plain
from forwardpass.config import BackendConfig
from forwardpass.errors import BackendFailed, InvalidInput, InvalidModel
from forwardpass.types import Columns, DType, TensorSpec

_ERRORS = (ValueError, RuntimeError, TypeError)


class LiteRTBackend(Backend):
    """One interpreter, whose tensors are resized where the artifact leaves an axis free.

    Tensors are named by the artifact's signature; without one, by the graph. Batched where the first axis of every
    tensor is free, which is how its converters write the rows.
    """

    name = "litert"

    def __init__(self, artifact: Path, threads: int, config: BackendConfig | None = None) -> None:
        """Load an artifact to compute with ``threads`` threads; ``InvalidModel`` if it cannot be used."""
        require_plain(artifact, config, "LiteRT")
        self._interpreter = _load(artifact, threads)
        try:
            inputs, outputs = _tensors(artifact, self._interpreter)
        except _ERRORS as reason:  # names that are not UTF-8, tensors that are not there
            raise InvalidModel(f"{artifact.name}: LiteRT cannot read its tensors: {one_line(reason)}") from None
        self.inputs = tuple(_spec(artifact, "input", name, details) for name, details in inputs.items())
        self.outputs = tuple(_spec(artifact, "output", name, details) for name, details in outputs.items())
        self.batched = all(spec.shape and spec.shape[0] is None for spec in (*self.inputs, *self.outputs))
        self._at = {name: int(details["index"]) for name, details in inputs.items()}
        self._answers = {name: int(details["index"]) for name, details in outputs.items()}
        self._shapes: dict[str, tuple[int, ...]] = {
            name: tuple(int(axis) for axis in details["shape"]) for name, details in inputs.items()
        }
        self._one = Lock()  # an interpreter holds the tensors of one call

    def run(self, columns: Columns) -> Columns:
        check_columns(columns, self.inputs)
        if self.batched and not len(columns[self.inputs[0].name]):
            return empty_columns(self.outputs)
        with self._one:
            self._resize({name: array.shape for name, array in columns.items()})
            try:
                for name, index in self._at.items():
                    self._interpreter.set_tensor(index, np.ascontiguousarray(columns[name]))
                self._interpreter.invoke()
                return {name: self._interpreter.get_tensor(index) for name, index in self._answers.items()}
            except _ERRORS as reason:
                raise BackendFailed(f"the artifact failed: {one_line(reason)}") from None

    def close(self) -> None:
        del self._interpreter  # memory is freed with the last reference

    def _resize(self, shapes: dict[str, tuple[int, ...]]) -> None:
        if shapes == self._shapes:
            return
        self._shapes = {}  # unknown until all of it is done
        try:
            for name, shape in shapes.items():
                self._interpreter.resize_tensor_input(self._at[name], shape, strict=True)
            self._interpreter.allocate_tensors()
        except _ERRORS as reason:
            given = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
            raise InvalidInput(f"the artifact cannot run inputs of shape {given}: {one_line(reason)}") from None
        self._shapes = shapes


def _load(artifact: Path, threads: int) -> Any:
    if not artifact.is_file():
        raise InvalidModel(f"{artifact.name}: there is no such file in {artifact.parent}")
    try:
        interpreter = Interpreter(model_path=str(artifact), num_threads=threads)
        interpreter.allocate_tensors()
    except _ERRORS as reason:
        raise InvalidModel(f"{artifact.name}: {_load_problem(str(reason))}") from None
    return interpreter


def _load_problem(text: str) -> str:
    """What is wrong with an artifact that does not load, and what to do."""
    if operator := re.search(r"unresolved custom op: (\S+?)\.?\s", text):
        return f"uses the custom operator {operator[1]!r}; libraries of custom operators are not loaded"
    if "Select TensorFlow op" in text:
        operator = re.search(r"Node number \d+ \((\w+)\)", text)
        named = f" {operator[1]!r}" if operator else ""
        return f"uses the TensorFlow operator{named}, which LiteRT does not have; convert it with TFLITE_BUILTINS alone"
    if "valid Flatbuffer" in text or "null/empty" in text:
        return "is not a LiteRT file, or is cut short"
    return f"LiteRT cannot load it: {one_line(text)}"


def _tensors(artifact: Path, interpreter: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Name and details of every input and output."""
    inputs = {item["name"]: item for item in interpreter.get_input_details()}
    outputs = {item["name"]: item for item in interpreter.get_output_details()}
    signatures = list(interpreter.get_signature_list())
    if len(signatures) > 1:
        raise InvalidModel(f"{artifact.name}: has {len(signatures)} signatures ({', '.join(signatures)}); keep one")
    if not signatures:
        return inputs, outputs
    runner = interpreter.get_signature_runner(signatures[0])
    named_inputs, named_outputs = runner.get_input_details(), runner.get_output_details()
    if _places(named_inputs) != _places(inputs) or not _places(named_outputs) <= _places(outputs):
        raise InvalidModel(f"{artifact.name}: its signature {signatures[0]!r} is not that of its first graph")
    return named_inputs, named_outputs


def _places(tensors: dict[str, Any]) -> set[int]:
    return {int(details["index"]) for details in tensors.values()}


def _spec(artifact: Path, kind: str, name: str, details: Any) -> TensorSpec:
    try:
        dtype = DType.of(np.empty(0, details["dtype"]))
    except (KeyError, TypeError):
        dtype = DType.BYTES
    if dtype is DType.BYTES:
        what = getattr(details["dtype"], "__name__", details["dtype"])
        raise InvalidModel(f"{artifact.name}: {kind} {name!r} is of type {what}, which cannot be served; use numbers")
    return TensorSpec(name, dtype, _shape(details["shape_signature"], details["shape"]))


def _shape(signature: Sequence[int], shape: Sequence[int]) -> tuple[int | None, ...]:
    """Free axes are -1 in the signature, which artifacts without any leave empty."""
    axes = signature if len(signature) else shape
    return tuple(None if axis < 0 else int(axis) for axis in axes)
