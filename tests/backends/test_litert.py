"""LiteRT: types, free axes, several rows, operators that are not there, and what goes wrong in words."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from forwardpass.backends import create_backend
from forwardpass.backends.litert import LiteRTBackend
from forwardpass.config import BackendConfig
from forwardpass.errors import InvalidInput, InvalidModel
from forwardpass.types import Array, DType, TensorSpec

TYPES = {
    DType.BOOL: schema.TensorType.BOOL,
    DType.UINT8: schema.TensorType.UINT8,
    DType.INT8: schema.TensorType.INT8,
    DType.INT16: schema.TensorType.INT16,
    DType.INT32: schema.TensorType.INT32,
    DType.INT64: schema.TensorType.INT64,
    DType.FP32: schema.TensorType.FLOAT32,
    DType.BYTES: schema.TensorType.STRING,
}
WEIGHTS = np.arange(8, dtype=np.float32).reshape(2, 4)


def _tensor(name: str, shape: Sequence[int], dtype: DType = DType.FP32, buffer: int = 0) -> Any:
    """A free axis is -1: 1 in the shape, -1 in the signature of the shape."""
    tensor = schema.TensorT()
    tensor.name, tensor.type, tensor.buffer = name, TYPES[dtype], buffer
    tensor.shape = [abs(axis) for axis in shape]
    tensor.shapeSignature = list(shape) if -1 in shape else None
    return tensor


def _operator(inputs: Sequence[int], output: int) -> Any:
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, list(inputs), [output]
    return operator


def _signature(key: str, inputs: dict[str, int], outputs: dict[str, int]) -> Any:
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = key, 0
    for names, tensors in ((inputs, "inputs"), (outputs, "outputs")):
        maps = []
        for name, index in names.items():
            item = schema.TensorMapT()
            item.name, item.tensorIndex = name, index
            maps.append(item)
        setattr(signature, tensors, maps)
    return signature


def save(
    path: Path,
    code: Any,
    operator: Any,
    tensors: Sequence[Any],
    inputs: Sequence[int],
    output: int,
    constants: Sequence[Array] = (),
    signatures: Sequence[Any] = (),
) -> Path:
    """Write a model of one operator."""
    graph = schema.SubGraphT()
    graph.tensors, graph.inputs, graph.outputs, graph.operators = list(tensors), list(inputs), [output], [operator]
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [code], [graph], [schema.BufferT()]
    for constant in constants:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(constant.tobytes(), np.uint8)
        model.buffers.append(buffer)
    model.signatureDefs = list(signatures)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def _code(builtin: int, custom: str | None = None) -> Any:
    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode, code.version = builtin, min(builtin, 127), 1
    code.customCode = custom
    return code


def dense(path: Path, rows: int = -1, signatures: Sequence[Any] | None = None) -> Path:
    """``y = x @ WEIGHTS.T + 1``; ``rows`` -1 leaves the first axis free."""
    operator = _operator([0, 1, 2], 3)
    operator.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
    operator.builtinOptions = schema.FullyConnectedOptionsT()
    tensors = [
        _tensor("serving_x:0", [rows, 4]),
        _tensor("w", [2, 4], buffer=1),
        _tensor("b", [2], buffer=2),
        _tensor("PartitionedCall:0", [rows, 2]),
    ]
    if signatures is None:
        signatures = [_signature("serving_default", {"x": 0}, {"y": 3})]
    code = _code(schema.BuiltinOperator.FULLY_CONNECTED)
    return save(path, code, operator, tensors, [0], 3, [WEIGHTS, np.ones(2, np.float32)], signatures)


def identity(path: Path, dtype: DType) -> Path:
    """``y = x`` (a reshape to the shape it has), rows of 2."""
    operator = _operator([0, 1], 2)
    tensors = [_tensor("x", [-1, 2], dtype), _tensor("shape", [2], DType.INT32, 1), _tensor("y", [-1, 2], dtype)]
    return save(path, _code(schema.BuiltinOperator.RESHAPE), operator, tensors, [0], 2, [np.array([-1, 2], np.int32)])


def add(path: Path, first: Sequence[int], second: Sequence[int], output: Sequence[int]) -> Path:
    """``total = a + b``."""
    operator = _operator([0, 1], 2)
    operator.builtinOptionsType = schema.BuiltinOptions.AddOptions
    operator.builtinOptions = schema.AddOptionsT()
    tensors = [_tensor("a", first), _tensor("b", second), _tensor("total", output)]
    return save(path, _code(schema.BuiltinOperator.ADD), operator, tensors, [0, 1], 2)


def custom(path: Path, name: str) -> Path:
    tensors = [_tensor("x", [1, 4]), _tensor("y", [1, 4])]
    return save(path, _code(schema.BuiltinOperator.CUSTOM, name), _operator([0], 1), tensors, [0], 1)


def test_names_come_from_the_signature(folder: Path) -> None:
    backend = create_backend(dense(folder / "m.tflite"), 2)
    assert isinstance(backend, LiteRTBackend)
    assert backend.inputs == (TensorSpec("x", DType.FP32, (None, 4)),)
    assert backend.outputs == (TensorSpec("y", DType.FP32, (None, 2)),)
    assert backend.batched
    bare = LiteRTBackend(dense(folder / "b.tflite", signatures=[]), 1)
    assert (bare.inputs[0].name, bare.outputs[0].name) == ("serving_x:0", "PartitionedCall:0")


def test_batches_of_any_size_one_after_another(folder: Path) -> None:
    backend = LiteRTBackend(dense(folder / "m.tflite"), 1)
    generator = np.random.default_rng(0)
    for rows in (1, 3, 0, 3, 64, 1):
        given = generator.standard_normal((rows, 4)).astype(np.float32)
        answer = backend.run({"x": given})["y"]
        assert answer.shape == (rows, 2)
        np.testing.assert_allclose(answer, given @ WEIGHTS.T + 1, rtol=1e-5, atol=1e-5)


def test_answers_are_the_callers_to_keep(folder: Path) -> None:
    backend = LiteRTBackend(dense(folder / "m.tflite"), 1)
    first = backend.run({"x": np.ones((1, 4), np.float32)})["y"]
    backend.run({"x": np.zeros((1, 4), np.float32)})
    backend.close()
    assert first.tolist() == [[7.0, 23.0]]
    first[0, 0] = 1


def test_callers_at_the_same_time_get_their_own_answers(folder: Path) -> None:
    backend = LiteRTBackend(dense(folder / "m.tflite"), 1)

    def call(number: int) -> bool:
        given = np.full((1 + number % 3, 4), number, np.float32)
        return bool(np.allclose(backend.run({"x": given})["y"], given @ WEIGHTS.T + 1))

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(call, range(200)))


def test_strided_columns_are_read_as_what_they_say(folder: Path) -> None:
    backend = LiteRTBackend(dense(folder / "m.tflite"), 1)
    given = np.arange(24, dtype=np.float32).reshape(3, 8)[:, ::2]
    np.testing.assert_allclose(backend.run({"x": given})["y"], given @ WEIGHTS.T + 1)


@pytest.mark.parametrize("dtype", [dtype for dtype in TYPES if dtype is not DType.BYTES])
def test_types_go_through_unchanged(folder: Path, dtype: DType) -> None:
    backend = LiteRTBackend(identity(folder / "m.tflite", dtype), 1)
    assert backend.inputs == (TensorSpec("x", dtype, (None, 2)),)
    given = np.array([[0, 1], [1, 0], [1, 1]]).astype(dtype.numpy)
    answer = backend.run({"x": given})["y"]
    assert (answer.dtype, answer.tolist()) == (dtype.numpy, given.tolist())


def test_texts_are_refused(folder: Path) -> None:
    with pytest.raises(InvalidModel, match=r"input 'x' is of type \w+, which cannot be served; use numbers"):
        LiteRTBackend(identity(folder / "m.tflite", DType.BYTES), 1)


@pytest.mark.parametrize(
    ("first", "second", "output", "batched"),
    [
        ([-1, 3], [-1, 3], [-1, 3], True),
        ([-1, 3], [1, 3], [-1, 3], False),
        ([2, 3], [2, 3], [2, 3], False),
        ([2, -1], [2, -1], [2, -1], False),
    ],
)
def test_batched_where_every_first_axis_is_free(
    folder: Path, first: list[int], second: list[int], output: list[int], batched: bool
) -> None:
    backend = LiteRTBackend(add(folder / "m.tflite", first, second, output), 1)
    assert backend.batched is batched
    a, b = (np.ones([5 if axis < 0 else axis for axis in shape], np.float32) for shape in (first, second))
    assert backend.run({"a": a, "b": b})["total"].tolist() == (a + b).tolist()


def test_shapes_that_do_not_fit_each_other_are_the_callers_fault(folder: Path) -> None:
    backend = LiteRTBackend(add(folder / "m.tflite", [-1, 3], [-1, 3], [-1, 3]), 1)
    two, three = np.ones((2, 3), np.float32), np.ones((3, 3), np.float32)
    with pytest.raises(InvalidInput, match=r"cannot run inputs of shape a \[2, 3\], b \[3, 3\]"):
        backend.run({"a": two, "b": three})
    assert backend.run({"a": three, "b": three})["total"].tolist() == (three * 2).tolist(), "the next one is answered"


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({}, "'x' is missing"),
        ({"x": np.ones((1, 5), np.float32)}, r"has shape \[1, 5\]; the artifact takes \[any, 4\]"),
        ({"x": np.ones((1, 4))}, "is of type float64; the artifact takes FP32"),
        ({"x": np.ones((1, 4), np.float32), "q": np.ones(1)}, "has no input 'q'"),
    ],
)
def test_wrong_tensors_are_the_callers_fault(folder: Path, columns: dict[str, Array], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        LiteRTBackend(dense(folder / "m.tflite"), 1).run(columns)


def test_a_fixed_number_of_rows_is_not_batched(folder: Path) -> None:
    backend = LiteRTBackend(dense(folder / "m.tflite", rows=1), 1)
    assert (backend.batched, backend.inputs[0].shape) == (False, (1, 4))
    with pytest.raises(InvalidInput, match=r"has shape \[2, 4\]; the artifact takes \[1, 4\]"):
        backend.run({"x": np.ones((2, 4), np.float32)})


@pytest.mark.parametrize(
    ("operator", "says"), [("MyOp", "the custom operator 'MyOp'"), ("FlexErf", "the TensorFlow operator 'FlexErf'")]
)
def test_an_operator_that_is_not_there_is_named(folder: Path, operator: str, says: str) -> None:
    with pytest.raises(InvalidModel, match=rf"^m\.tflite: uses {says}"):
        LiteRTBackend(custom(folder / "m.tflite", operator), 1)


def test_several_signatures_are_refused(folder: Path) -> None:
    two = [_signature(key, {"x": 0}, {"y": 3}) for key in ("serve", "other")]
    with pytest.raises(InvalidModel, match=r"has 2 signatures \((serve, other|other, serve)\); keep one"):
        LiteRTBackend(dense(folder / "m.tflite", signatures=two), 1)


@pytest.mark.parametrize("content", [b"", b"abc", b"\x80pickle", "cut", "damaged", None])
def test_what_is_no_artifact(folder: Path, content: Any) -> None:
    path = folder / "m.tflite"
    whole = dense(folder / "whole.tflite").read_bytes()
    if content is not None:
        path.write_bytes(
            {"cut": whole[:-20], "damaged": whole[:200] + b"\xff" * 50 + whole[250:]}.get(content, content)
        )
    with pytest.raises(
        InvalidModel, match=r"^m\.tflite: (is not a LiteRT file, or is cut short|there is no such file)"
    ):
        LiteRTBackend(path, 1)


def test_names_that_are_not_text(folder: Path) -> None:
    path = dense(folder / "m.tflite")
    path.write_bytes(path.read_bytes().replace(b"PartitionedCall", b"PartitionedC\xffll"))
    with pytest.raises(InvalidModel, match=r"^m\.tflite: LiteRT cannot read its tensors: 'utf-8' codec"):
        LiteRTBackend(path, 1)


def test_what_it_cannot_obey_is_refused(folder: Path) -> None:
    with pytest.raises(InvalidModel, match="remove `device: cuda`"):
        LiteRTBackend(dense(folder / "m.tflite"), 1, BackendConfig(device="cuda"))


def test_a_fork_of_a_process_that_imported_the_library(folder: Path) -> None:
    """As workers are started: libraries with threads of their own hang where they ran before the fork."""
    path = dense(folder / "m.tflite")
    code = (
        "import os, numpy, pathlib\n"
        "from forwardpass.backends.litert import LiteRTBackend\n"
        "if pid := os.fork():\n"
        "    raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
        f"backend = LiteRTBackend(pathlib.Path({str(path)!r}), 2)\n"
        "answer = backend.run({'x': numpy.ones((1000, 4), 'f4')})\n"
        "os._exit(7 if answer['y'].shape == (1000, 2) else 1)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=50).returncode == 7
