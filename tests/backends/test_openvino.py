"""OpenVINO: types, axes, what it must refuse because the library would not, and its settings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx.external_data_helper import set_external_data
from tests import artifacts
from tests.backends.test_onnx import VALUES

openvino = pytest.importorskip("forwardpass.backends.openvino", reason="needs OpenVINO")

from forwardpass.backends import create_backend  # noqa: E402
from forwardpass.backends.openvino import OpenVinoBackend  # noqa: E402
from forwardpass.config import BackendConfig  # noqa: E402
from forwardpass.errors import ForwardpassError, InvalidInput, InvalidModel  # noqa: E402
from forwardpass.types import Array, DType, TensorSpec  # noqa: E402

NUMBERS = [dtype for dtype in DType if dtype is not DType.BYTES]


def open_backend(path: Path, precision: Any = "fp32") -> OpenVinoBackend:
    return OpenVinoBackend(path, 1, BackendConfig("openvino", precision=precision))


def save_ir(path: Path) -> Path:
    """The artifact as IR, beside it."""
    library = openvino.openvino
    library.save_model(library.Core().read_model(path), path.with_suffix(".xml"), compress_to_fp16=False)
    return path.with_suffix(".xml")


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("rows", [0, 3])
def test_every_type_of_number_goes_through_unchanged(folder: Path, dtype: DType, rows: int) -> None:
    backend = open_backend(artifacts.identity(folder / "m.onnx", dtype))
    values = [[-(2**31), 2**31 - 1]] if dtype is DType.INT64 else [[0, 7]] if dtype is DType.UINT64 else VALUES[dtype]
    given = np.array(values * rows, dtype=dtype.numpy).reshape(rows, 2)
    answer = backend.run({"x": given})["y"]
    assert backend.inputs == (TensorSpec("x", dtype, (None, 2)),)
    assert answer.dtype == dtype.numpy
    assert answer.shape == (rows, 2)
    assert answer.tolist() == given.tolist()


@pytest.mark.parametrize(("dtype", "value"), [("INT64", 2**31), ("INT64", -(2**31) - 1), ("UINT64", 2**31)])
def test_whole_numbers_that_it_would_wrap_are_refused(folder: Path, dtype: str, value: int) -> None:
    backend = open_backend(artifacts.identity(folder / "m.onnx", dtype))
    with pytest.raises(InvalidInput, match="'x': every value must lie between -2147483648 and 2147483647"):
        backend.run({"x": np.array([[0, value]], DType(dtype).numpy)})


@pytest.mark.parametrize("value", [8, -9, 2**40])
def test_an_id_outside_its_table_is_the_callers_fault(folder: Path, value: int) -> None:
    """The library would look up a zero."""
    backend = open_backend(artifacts.lookup(folder / "m.onnx", size=8))
    with pytest.raises(InvalidInput, match="'id': every value must lie between -8 and 7"):
        backend.run({"id": np.array([3, value])})
    assert backend.run({"id": np.array([3, 7, -8])})["y"].tolist() == [30.0, 70.0, 0.0]


def test_bfloat16_is_computed_with_as_such(folder: Path) -> None:
    """Not only carried: its bits read as another type of that width would give another sum."""
    shape: artifacts.Shape = ["N", 2]
    node = helper.make_node("Add", ["x", "x"], ["y"])
    path = artifacts.save(
        folder / "m.onnx", [node], [artifacts.tensor("x", shape, "BF16")], [artifacts.tensor("y", shape, "BF16")]
    )
    given = np.array([[1.5, -300.0]], DType.BF16.numpy)
    assert open_backend(path).run({"x": given})["y"].tolist() == [[3.0, -600.0]]


def test_text_is_refused_with_what_runs_it(folder: Path) -> None:
    with pytest.raises(InvalidModel, match=r"'x' is of type string.*use the backend `onnxruntime`"):
        open_backend(artifacts.identity(folder / "m.onnx", "BYTES"))


@pytest.mark.parametrize(
    ("first", "out", "batched"),
    [("N", "N", True), ("N", None, True), (None, None, True), ("N", "M", False), (3, 3, False), ("N", 3, False)],
)
def test_one_input_is_batched_as_onnx_runtime_reads_it(
    folder: Path, first: artifacts.Axis, out: artifacts.Axis, batched: bool
) -> None:
    nodes = [helper.make_node("NonZero", ["x"], ["t"]), helper.make_node("Transpose", ["t"], ["y"])]
    inputs, outputs = [artifacts.tensor("x", [first, 2])], [artifacts.tensor("y", [out, 2], "INT64")]
    path = artifacts.save(folder / "m.onnx", nodes, inputs, outputs)
    assert open_backend(path).batched is batched
    assert create_backend(path, 1).batched is batched


@pytest.mark.parametrize(
    ("first", "second", "batched"),
    [("N", "N", True), ("N", "M", False), (None, None, False), ("N", None, False), (2, 2, False)],
)
def test_several_inputs_are_batched_where_they_share_a_name(
    folder: Path, first: artifacts.Axis, second: artifacts.Axis, batched: bool
) -> None:
    path = artifacts.two_inputs(folder / "m.onnx", first, second)
    assert open_backend(path).batched is batched
    assert create_backend(path, 1).batched is batched


def test_ir_holds_no_names_of_axes(folder: Path) -> None:
    """So that several inputs are not surely batched; one is, as without a name in ONNX."""
    assert open_backend(save_ir(artifacts.affine(folder / "one.onnx"))).batched
    assert not open_backend(save_ir(artifacts.two_inputs(folder / "two.onnx"))).batched


@pytest.mark.parametrize("kind", ["onnx", "ir"])
def test_tensors_keep_their_names_and_their_order(folder: Path, kind: str) -> None:
    nodes = [
        helper.make_node("Sub", ["z", "a"], ["mid"]),
        helper.make_node("Identity", ["mid"], ["last"]),
        helper.make_node("Identity", ["mid"], ["first"]),
    ]
    inputs = [artifacts.tensor("z", ["N"]), artifacts.tensor("a", ["N"])]
    outputs = [artifacts.tensor(name, ["N"]) for name in ("last", "mid", "first")]
    path = artifacts.save(folder / "m.onnx", nodes, inputs, outputs)
    backend = open_backend(path if kind == "onnx" else save_ir(path))
    assert [spec.name for spec in backend.inputs] == ["z", "a"]
    assert [spec.name for spec in backend.outputs] == ["last", "mid", "first"]
    answer = backend.run({"a": np.ones(2, np.float32), "z": np.array([3, 5], np.float32)})
    assert {name: array.tolist() for name, array in answer.items()} == {"last": [2, 4], "mid": [2, 4], "first": [2, 4]}


@pytest.mark.parametrize(
    "shapes", [{"a": (2, 3), "b": (4, 3)}, {"a": (2, 3), "b": (2, 4)}, {"a": (2, 3), "b": (3,)}, {"a": (0, 3)}]
)
@pytest.mark.parametrize("names", [("N", "N"), ("N", "M"), (None, None)])
def test_inputs_that_do_not_fit_each_other_are_refused(
    folder: Path, names: tuple[artifacts.Axis, artifacts.Axis], shapes: dict[str, tuple[int, ...]]
) -> None:
    """The library would add them to nothing, without a word."""
    backend = open_backend(artifacts.two_inputs(folder / "m.onnx", *names))
    fitting = {name: np.ones((2, 3), np.float32) for name in ("a", "b")}
    with pytest.raises(InvalidInput):
        backend.run(fitting | {name: np.ones(shape, np.float32) for name, shape in shapes.items()})
    assert backend.run(fitting)["total"].tolist() == [[2.0] * 3] * 2


def positions(path: Path) -> Path:
    """``y = x + table[:length of x]``, where the table has 8 entries."""
    table = artifacts.constant("table", np.zeros((1, 8), np.float32))
    nodes = [
        helper.make_node("Shape", ["x"], ["size"]),
        helper.make_node("Slice", ["table", "start", "size"], ["part"]),
        helper.make_node("Add", ["x", "part"], ["y"]),
    ]
    shape = ["N", "L"]
    constants = [table, artifacts.constant("start", np.array([0, 0]))]
    return artifacts.save(path, nodes, [artifacts.tensor("x", shape)], [artifacts.tensor("y", shape)], constants)


def test_a_length_that_does_not_fit_inside_is_the_callers_fault(folder: Path) -> None:
    backend = open_backend(positions(folder / "m.onnx"))
    assert backend.batched
    for rows, length in [(1, 8), (3, 8), (2, 5)]:
        assert backend.run({"x": np.ones((rows, length), np.float32)})["y"].shape == (rows, length)
    with pytest.raises(InvalidInput, match="inconsistent") as caught:
        backend.run({"x": np.ones((2, 9), np.float32)})
    assert_readable(caught.value)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (np.ones((2, 65), np.float32), r"shape \[2, 65\]; the artifact takes \[any, 64\]"),
        (np.ones((0, 65), np.float32), r"shape \[0, 65\]"),
        (np.ones(64, np.float32), r"shape \[64\]; the artifact takes \[any, 64\]"),
        (np.ones((2, 64), np.float64), "float64; the artifact takes FP32"),
    ],
)
def test_wrong_tensors_are_the_callers_fault(folder: Path, given: Array, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        open_backend(artifacts.affine(folder / "m.onnx")).run({"x": given})


def test_missing_and_unknown_tensors(folder: Path) -> None:
    backend = open_backend(artifacts.affine(folder / "m.onnx"))
    with pytest.raises(InvalidInput, match="'x' is missing"):
        backend.run({})
    with pytest.raises(InvalidInput, match="no input 'q'"):
        backend.run({"x": np.ones((1, 64), np.float32), "q": np.ones(1)})


@pytest.mark.parametrize("make", [artifacts.scalar_output, artifacts.no_batch_axis, artifacts.ragged, artifacts.slow])
def test_what_onnx_runtime_runs_it_runs_alike(folder: Path, make: Any) -> None:
    path = make(folder / "m.onnx")
    backend, reference = open_backend(path), create_backend(path, 1)
    assert (backend.inputs, backend.outputs) == (reference.inputs, reference.outputs)
    shape = [axis or 2 for axis in backend.inputs[0].shape]
    given = {"x": np.arange(np.prod(shape), dtype=np.float32).reshape(shape)}
    assert backend.run(given)["y"].tolist() == reference.run(given)["y"].tolist()


@pytest.mark.parametrize(("domain", "says"), [("my.ops", "my.ops.Foo"), ("", "Foo")])
def test_an_operator_that_is_not_there_is_named(folder: Path, domain: str, says: str) -> None:
    node = helper.make_node("Foo", ["x"], ["y"], domain=domain)
    graph = helper.make_graph([node], "g", [artifacts.tensor("x", ["N"])], [artifacts.tensor("y", ["N"])])
    opsets = [helper.make_opsetid("", 19), helper.make_opsetid("my.ops", 1)]
    (folder / "m.onnx").write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())
    with pytest.raises(InvalidModel, match=rf"OpenVINO does not have: {says}.*use the backend `onnxruntime`") as caught:
        open_backend(folder / "m.onnx")
    assert_readable(caught.value)


def test_an_operator_of_ir_that_is_not_there_is_named(folder: Path) -> None:
    path = save_ir(artifacts.affine(folder / "m.onnx"))
    path.write_text(path.read_text().replace('"MatMul"', '"FooMul"'))
    with pytest.raises(InvalidModel, match="the operator 'FooMul', which opset1 of OpenVINO does not have"):
        open_backend(path)


@pytest.mark.parametrize("make", [artifacts.sequence_input, artifacts.sequence_output])
def test_sequences_are_refused(folder: Path, make: Any) -> None:
    with pytest.raises(InvalidModel, match="Sequence") as caught:
        open_backend(make(folder / "m.onnx"))
    assert_readable(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("m.onnx", b"", "is not an ONNX file"),
        ("m.onnx", b"\x80pickle", "is not an ONNX file"),
        ("m.onnx", None, "there is no such file"),
        ("m.xml", b"", "is not OpenVINO IR"),
        ("m.xml", b"<html></html>", "m.xml: "),
        ("m.bin", b"", r"OpenVINO runs \.onnx and \.xml files, not '\.bin'"),
    ],
)
def test_what_is_no_artifact(folder: Path, name: str, content: bytes | None, says: str) -> None:
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(InvalidModel, match=says) as caught:
        open_backend(folder / name)
    assert_readable(caught.value)


def test_artifacts_cut_short(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = artifacts.affine(folder / "m.onnx")
    ir = save_ir(path)
    for file in (path, ir):
        file.write_bytes(file.read_bytes()[:500])
        with pytest.raises(InvalidModel, match="cut short"):
            open_backend(file)
    assert capfd.readouterr() == ("", ""), "nobody guesses at other formats"


def test_weights_of_ir_that_are_missing_or_cut_short(folder: Path) -> None:
    path = save_ir(artifacts.affine(folder / "m.onnx"))
    weights = path.with_suffix(".bin")
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(InvalidModel, match=r"cut short, or another model's: m\.bin"):
        open_backend(path)
    weights.unlink()
    with pytest.raises(InvalidModel, match=r"its weights are missing: m\.bin"):
        open_backend(path)


def test_weights_of_ir_outside_the_folder_are_refused(folder: Path) -> None:
    path = save_ir(artifacts.affine(folder / "m.onnx"))
    weights = path.with_suffix(".bin")
    weights.rename(folder.parent / "w.bin")
    weights.symlink_to(folder.parent / "w.bin")
    with pytest.raises(InvalidModel, match=r"m\.bin is a link out of its folder"):
        open_backend(path)


@pytest.mark.parametrize("way", ["up", "absolute", "link", "missing"])
def test_weights_of_onnx_in_another_file(folder: Path, way: str) -> None:
    outside = folder.parent / "w.bin"
    location = {"up": "../w.bin", "absolute": str(outside), "link": "link.bin", "missing": "no.bin"}[way]
    weight = artifacts.constant("w", np.ones((64, 10), np.float32))
    outside.write_bytes(weight.raw_data)
    set_external_data(weight, location)
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    (folder / "link.bin").symlink_to(outside)
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    inputs, outputs = [artifacts.tensor("x", ["N", 64])], [artifacts.tensor("y", ["N", 10])]
    path = artifacts.save(folder / "m.onnx", [node], inputs, outputs, [weight])
    says = "in another file, which is missing or cut short: no.bin" if way == "missing" else "outside its folder"
    with pytest.raises(InvalidModel, match=says):
        open_backend(path)


def able() -> set[str]:
    return {name.lower() for name in openvino.openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")}


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_the_precision_asked_for_is_the_one_used_or_refused(folder: Path, precision: str) -> None:
    path = artifacts.affine(folder / "m.onnx")
    if precision not in able():
        with pytest.raises(InvalidModel, match=f"does not compute in {precision}; use one of: fp32"):
            open_backend(path, precision)
        return
    backend = open_backend(path, precision)
    compiled = backend._request.get_compiled_model()
    used = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    assert used == {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}[precision]
    given = {"x": np.random.default_rng(0).standard_normal((8, 64)).astype(np.float32)}
    exact = given["x"] @ artifacts.weights() + 1
    error = np.abs(backend.run(given)["y"] - exact).max()
    assert error < 1e-4 if precision == "fp32" else 1e-4 < error < 0.2


def test_the_settings_of_a_model(folder: Path) -> None:
    backend = OpenVinoBackend(artifacts.affine(folder / "m.onnx"), threads=2)
    compiled = backend._request.get_compiled_model()
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 2
    assert compiled.get_property("NUM_STREAMS") == 1
    assert compiled.get_property("ENABLE_CPU_PINNING") is False


def test_a_gpu_is_refused(folder: Path) -> None:
    with pytest.raises(InvalidModel, match="on the CPU here"):
        OpenVinoBackend(artifacts.affine(folder / "m.onnx"), 1, BackendConfig("openvino", device="cuda"))


def test_compiled_models_are_cached_only_where_the_folder_was_made(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    path = artifacts.affine(folder / "m.onnx")
    open_backend(path).close()
    assert not (folder / "cache").exists()
    kept = folder / "cache" / "forwardpass" / "openvino"
    kept.mkdir(parents=True)
    given = {"x": np.ones((1, 64), np.float32)}
    first = open_backend(path).run(given)["y"]
    assert len(list(kept.iterdir())) == 1
    assert open_backend(path).run(given)["y"].tolist() == first.tolist()
    artifacts.affine(path, outputs=9)
    assert open_backend(path).run(given)["y"].shape == (1, 9), "another artifact of that name"


def test_a_cached_model_has_the_precision_it_is_opened_with(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "bf16" not in able():
        pytest.skip("this CPU does not compute in bf16")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    (folder / "forwardpass" / "openvino").mkdir(parents=True)
    path = artifacts.affine(folder / "m.onnx")
    given = {"x": np.random.default_rng(0).standard_normal((8, 64)).astype(np.float32)}
    exact = given["x"] @ artifacts.weights() + 1
    errors = [np.abs(open_backend(path, p).run(given)["y"] - exact).max() for p in ("bf16", "fp32", "bf16")]
    assert errors[1] < 1e-4 < errors[0] == errors[2]


TELEMETRY = """
import sys
import forwardpass.backends.openvino
assert sys.modules["openvino_telemetry"] is None
import openvino.tools.ovc.telemetry_utils as reporting
assert reporting.tm.__name__.endswith("telemetry_stub"), reporting.tm
"""


@pytest.mark.slow
def test_importing_it_reports_nothing(tmp_path: Path) -> None:
    """The library would write an id below the home folder and send an event."""
    done = subprocess.run([sys.executable, "-c", TELEMETRY], env=os.environ | {"HOME": str(tmp_path)}, timeout=50)
    assert done.returncode == 0
    assert not (tmp_path / "intel").exists()


def assert_readable(error: ForwardpassError) -> None:
    """One short line, and nothing of the library's source."""
    assert "\n" not in error.message
    assert len(error.message) < 400
    for noise in (".cpp:", ".hpp:", "::", "Exception from", "FrontEnd API"):
        assert noise not in error.message
