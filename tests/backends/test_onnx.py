"""ONNX Runtime: every tensor type, which artifacts are batched, and what goes wrong in words."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx.external_data_helper import set_external_data
from tests import artifacts

from forwardpass.backends.onnx import OnnxBackend, _openvino_config, _plugin_devices
from forwardpass.config import BackendConfig
from forwardpass.errors import BackendFailed, ForwardpassError, InvalidInput, InvalidModel, InvalidRows
from forwardpass.types import Array, DType, TensorSpec

VALUES: dict[DType, list[Any]] = {
    DType.BOOL: [[True, False]],
    DType.UINT8: [[0, 255]],
    DType.UINT16: [[0, 65535]],
    DType.UINT32: [[0, 2**32 - 1]],
    DType.UINT64: [[0, 2**64 - 1]],
    DType.INT8: [[-128, 127]],
    DType.INT16: [[-32768, 32767]],
    DType.INT32: [[-(2**31), 2**31 - 1]],
    DType.INT64: [[-(2**63), 2**63 - 1]],
    DType.FP16: [[-65504.0, 0.5]],
    DType.BF16: [[1.0, -2.5]],
    DType.FP32: [[float("inf"), 1e-38]],
    DType.FP64: [[1e300, -0.0]],
    DType.BYTES: [["", "naïve 🐟\0x"]],
}


def open_backend(path: Path) -> OnnxBackend:
    return OnnxBackend(path, threads=1)


@pytest.mark.parametrize("dtype", DType)
@pytest.mark.parametrize("rows", [0, 1, 3])
def test_every_type_goes_through_unchanged(folder: Path, dtype: DType, rows: int) -> None:
    backend = open_backend(artifacts.identity(folder / "m.onnx", dtype))
    given = np.array(VALUES[dtype] * rows, dtype=dtype.numpy).reshape(rows, 2)
    answer = backend.run({"x": given})["y"]
    assert backend.inputs == (TensorSpec("x", dtype, (None, 2)),)
    assert answer.dtype == dtype.numpy
    assert answer.shape == (rows, 2)
    assert answer.tolist() == given.tolist()


@pytest.mark.parametrize("dtype", [DType.BF16, DType.FP32, DType.BYTES])
def test_strided_columns_are_read_as_what_they_say(folder: Path, dtype: DType) -> None:
    backend = open_backend(artifacts.identity(folder / "m.onnx", dtype))
    numbers = np.arange(12).reshape(3, 4)[:, ::2]
    given = numbers.astype(str).astype(object) if dtype is DType.BYTES else numbers.astype(dtype.numpy, order="K")
    strided = np.repeat(given, 2, axis=1)[:, ::2]
    assert not strided.flags.c_contiguous
    assert backend.run({"x": strided})["y"].tolist() == given.tolist()


def test_bfloat16_answers_are_the_callers_to_keep(folder: Path) -> None:
    backend = open_backend(artifacts.identity(folder / "m.onnx", "BF16"))
    first = backend.run({"x": np.ones((2, 2), DType.BF16.numpy)})["y"]
    backend.run({"x": np.zeros((2, 2), DType.BF16.numpy)})
    assert first.tolist() == [[1.0, 1.0], [1.0, 1.0]]
    first[0, 0] = 7
    backend.close()
    assert first[0, 0] == 7


def test_bfloat16_beside_another_type(folder: Path) -> None:
    node = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)
    taking = artifacts.save(
        folder / "a.onnx", [node], [artifacts.tensor("x", ["N"], "BF16")], [artifacts.tensor("y", ["N"])]
    )
    node = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.BFLOAT16)
    giving = artifacts.save(
        folder / "b.onnx", [node], [artifacts.tensor("x", ["N"])], [artifacts.tensor("y", ["N"], "BF16")]
    )
    assert open_backend(taking).run({"x": np.array([1.5], DType.BF16.numpy)})["y"].dtype == np.float32
    assert open_backend(giving).run({"x": np.array([1.5], np.float32)})["y"].dtype == DType.BF16.numpy


def test_bfloat16_beside_text_is_refused(folder: Path) -> None:
    nodes = [helper.make_node("Identity", ["t"], ["u"]), helper.make_node("Identity", ["x"], ["y"])]
    inputs = [artifacts.tensor("t", ["N"], "BYTES"), artifacts.tensor("x", ["N"], "BF16")]
    outputs = [artifacts.tensor("u", ["N"], "BYTES"), artifacts.tensor("y", ["N"], "BF16")]
    with pytest.raises(InvalidModel, match="text inputs together with BF16"):
        open_backend(artifacts.save(folder / "m.onnx", nodes, inputs, outputs))


def test_bytes_are_decoded_as_utf8(folder: Path) -> None:
    backend = open_backend(artifacts.identity(folder / "m.onnx", "BYTES"))
    given = np.array([["a", "é".encode()], [b"", "ß"]], object)
    assert backend.run({"x": given})["y"].tolist() == [["a", "é"], ["", "ß"]]


def test_bytes_that_are_not_utf8_name_the_row(folder: Path) -> None:
    backend = open_backend(artifacts.identity(folder / "m.onnx", "BYTES"))
    given = np.array([["a", "b"], ["c", b"ok \xff"]], object)
    with pytest.raises(InvalidRows, match="input 'x': not UTF-8 text") as caught:
        backend.run({"x": given})
    assert list(caught.value.rows) == [1]


def test_half_of_a_character_is_refused(folder: Path) -> None:
    backend = open_backend(artifacts.identity(folder / "m.onnx", "BYTES"))
    with pytest.raises(InvalidInput, match="not valid Unicode"):
        backend.run({"x": np.array([["a", "\ud800"]], object)})


@pytest.mark.parametrize(
    ("first", "out", "batched"),
    [
        ("N", "N", True),
        ("N", None, True),
        (None, None, True),
        ("N", "M", False),
        (None, "M", False),
        (3, 3, False),
        (3, "N", False),
        ("N", 3, False),
    ],
)
def test_one_input_is_batched_where_its_first_axis_is_free(
    folder: Path, first: artifacts.Axis, out: artifacts.Axis, batched: bool
) -> None:
    # NonZero of a matrix hides from the library how the axes are related.
    nodes = [helper.make_node("NonZero", ["x"], ["t"]), helper.make_node("Transpose", ["t"], ["y"])]
    path = artifacts.save(
        folder / "m.onnx",
        nodes,
        [artifacts.tensor("x", [first, 2])],
        [artifacts.tensor("y", [out, 2], "INT64")],
    )
    assert open_backend(path).batched is batched


@pytest.mark.parametrize(
    ("first", "second", "batched"),
    [("N", "N", True), ("N", "M", False), (None, None, False), ("N", None, False), (2, 2, False), ("N", 2, False)],
)
def test_several_inputs_are_batched_where_they_share_a_name(
    folder: Path, first: artifacts.Axis, second: artifacts.Axis, batched: bool
) -> None:
    backend = open_backend(artifacts.two_inputs(folder / "m.onnx", first, second))
    assert backend.batched is batched


def test_scalars_and_fixed_axes_are_not_batched(folder: Path) -> None:
    scalar = open_backend(artifacts.scalar_output(folder / "a.onnx"))
    fixed = open_backend(artifacts.no_batch_axis(folder / "b.onnx"))
    assert (scalar.batched, scalar.outputs[0].shape) == (False, ())
    assert (fixed.batched, fixed.inputs[0].shape) == (False, (4,))
    assert scalar.run({"x": np.ones((2, 2), np.float32)})["y"] == 4.0
    assert fixed.run({"x": np.ones(4, np.float32)})["y"].tolist() == [2.0] * 4


def test_constants_listed_as_inputs_are_no_inputs(folder: Path) -> None:
    weight = artifacts.constant("w", np.ones((2, 1), np.float32))
    path = artifacts.save(
        folder / "m.onnx",
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [artifacts.tensor("x", ["N", 2]), artifacts.tensor("w", [2, 1])],
        [artifacts.tensor("y", ["N", 1])],
        [weight],
    )
    backend = open_backend(path)
    assert [spec.name for spec in backend.inputs] == ["x"]
    assert backend.batched


def test_a_sequence_output_says_how_to_export_it(folder: Path) -> None:
    with pytest.raises(InvalidModel, match=r"output 'y' is of type seq\(tensor\(float\)\).*zipmap=False"):
        open_backend(artifacts.sequence_output(folder / "m.onnx"))


def test_a_classifier_with_zipmap_says_how_to_export_it(folder: Path) -> None:
    """As skl2onnx writes it by default: probabilities as a list of dictionaries."""
    node = helper.make_node("ZipMap", ["x"], ["p"], domain="ai.onnx.ml", classlabels_int64s=[0, 1])
    value = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    output = helper.make_value_info("p", helper.make_sequence_type_proto(value))
    graph = helper.make_graph([node], "g", [artifacts.tensor("x", ["N", 2])], [output])
    opsets = [helper.make_opsetid("", 19), helper.make_opsetid("ai.onnx.ml", 3)]
    (folder / "m.onnx").write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())
    with pytest.raises(InvalidModel, match=r"output 'p' is of type .*map\(.*zipmap=False"):
        open_backend(folder / "m.onnx")


def test_a_sequence_input_is_named(folder: Path) -> None:
    with pytest.raises(InvalidModel, match=r"input 'x' is of type seq\(tensor\(float\)\), which cannot be served"):
        open_backend(artifacts.sequence_input(folder / "m.onnx"))


@pytest.mark.parametrize("onnx_type", [TensorProto.FLOAT8E4M3FN, TensorProto.INT4, TensorProto.COMPLEX64])
def test_other_element_types_are_refused(folder: Path, onnx_type: int) -> None:
    values = [helper.make_tensor_value_info(name, onnx_type, ["N"]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(InvalidModel, match=r"float8e4m3fn|int4|complex64") as caught:
        open_backend(folder / "m.onnx")
    assert_readable(caught.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "is not an ONNX file"), (b"\x80pickle", "is not an ONNX file"), (None, "there is no such file")],
)
def test_what_is_no_artifact(folder: Path, content: bytes | None, says: str) -> None:
    if content is not None:
        (folder / "m.onnx").write_bytes(content)
    with pytest.raises(InvalidModel, match=rf"^m\.onnx: {says}"):
        open_backend(folder / "m.onnx")


def test_an_artifact_cut_short(folder: Path) -> None:
    path = artifacts.affine(folder / "m.onnx")
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(InvalidModel, match=r"is not an ONNX file, or is cut short"):
        open_backend(path)


@pytest.mark.parametrize(("domain", "says"), [("my.ops", "the custom operator 'my.ops:Foo'"), ("", "operator 'Foo'")])
def test_an_operator_that_is_not_there_is_named(folder: Path, domain: str, says: str) -> None:
    node = helper.make_node("Foo", ["x"], ["y"], domain=domain)
    graph = helper.make_graph([node], "g", [artifacts.tensor("x", ["N"])], [artifacts.tensor("y", ["N"])])
    opsets = [helper.make_opsetid("", 19), helper.make_opsetid("my.ops", 1)]
    (folder / "m.onnx").write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())
    with pytest.raises(InvalidModel, match=says):
        open_backend(folder / "m.onnx")


def write_external(path: Path, location: str) -> bytes:
    """An artifact whose weights lie in another file; returns what belongs into that file."""
    weight = artifacts.constant("w", np.ones((64, 10), np.float32))
    content: bytes = weight.raw_data
    set_external_data(weight, location)
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    artifacts.save(path, [node], [artifacts.tensor("x", ["N", 64])], [artifacts.tensor("y", ["N", 10])], [weight])
    return content


def test_weights_beside_the_artifact(folder: Path) -> None:
    (folder / "w.bin").write_bytes(write_external(folder / "m.onnx", "w.bin"))
    assert open_backend(folder / "m.onnx").run({"x": np.ones((1, 64), np.float32)})["y"][0, 0] == 64


def test_weights_that_are_missing_are_named(folder: Path) -> None:
    write_external(folder / "m.onnx", "w.bin")
    with pytest.raises(InvalidModel, match=r"in another file, which is missing: w\.bin"):
        open_backend(folder / "m.onnx")


@pytest.mark.parametrize("way", ["up", "absolute", "link"])
def test_weights_outside_the_folder_are_refused(folder: Path, way: str) -> None:
    outside = folder.parent / "w.bin"
    location = {"up": "../w.bin", "absolute": str(outside), "link": "link.bin"}[way]
    outside.write_bytes(write_external(folder / "m.onnx", location))
    if way == "link":
        (folder / "link.bin").symlink_to(outside)
    with pytest.raises(InvalidModel, match="outside its folder, which is refused"):
        open_backend(folder / "m.onnx")


def test_weights_cut_short(folder: Path) -> None:
    (folder / "w.bin").write_bytes(write_external(folder / "m.onnx", "w.bin")[:100])
    with pytest.raises(InvalidModel) as caught:
        open_backend(folder / "m.onnx")
    assert_readable(caught.value)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (np.ones((2, 65), np.float32), "index: 1 Got: 65 Expected: 64"),
        (np.ones(64, np.float32), "Got: 1 Expected: 2"),
        (np.ones((2, 64), np.float64), "tensor\\(double\\)"),
    ],
)
def test_wrong_tensors_are_the_callers_fault(folder: Path, given: Array, says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as caught:
        open_backend(artifacts.affine(folder / "m.onnx")).run({"x": given})
    assert_readable(caught.value)


def test_missing_and_unknown_tensors(folder: Path) -> None:
    backend = open_backend(artifacts.affine(folder / "m.onnx"))
    with pytest.raises(InvalidInput, match="missing"):
        backend.run({})
    with pytest.raises(InvalidInput, match="q"):
        backend.run({"x": np.ones((1, 64), np.float32), "q": np.ones(1)})
    with pytest.raises(InvalidInput, match="missing"):
        open_backend(artifacts.identity(folder / "t.onnx", "BYTES")).run({})


def test_shapes_that_do_not_fit_inside_are_the_callers_fault(folder: Path) -> None:
    backend = open_backend(artifacts.two_inputs(folder / "m.onnx", "N", "M"))
    with pytest.raises(InvalidInput, match=r"Add node\. .* by a dimension other than 1") as caught:
        backend.run({"a": np.ones((2, 3), np.float32), "b": np.ones((3, 3), np.float32)})
    assert_readable(caught.value)


def test_a_value_the_artifact_refuses_is_the_callers_fault(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    backend = open_backend(artifacts.lookup(folder / "m.onnx"))
    with pytest.raises(InvalidInput, match="out of data bounds, idx=99"):
        backend.run({"id": np.array([99])})
    assert capfd.readouterr() == ("", ""), "what is raised is not printed as well"
    assert backend.run({"id": np.array([3])})["y"].tolist() == [30.0], "the next request is answered"


def test_a_failing_artifact_is_its_own_fault(folder: Path) -> None:
    """It asks for more memory than there is."""
    node = helper.make_node("Expand", ["x", "size"], ["y"])
    path = artifacts.save(
        folder / "m.onnx",
        [node],
        [artifacts.tensor("x", ["N"]), artifacts.tensor("size", [1], "INT64")],
        [artifacts.tensor("y", [None])],
    )
    with pytest.raises(BackendFailed, match="the artifact failed: ") as caught:
        open_backend(path).run({"x": np.ones(1, np.float32), "size": np.array([2**50])})
    assert_readable(caught.value)


def test_the_settings_of_a_session(folder: Path) -> None:
    backend = OnnxBackend(artifacts.affine(folder / "m.onnx"), threads=2)
    options = backend._session.get_session_options()
    assert options.intra_op_num_threads == 2
    assert options.inter_op_num_threads == 1
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert options.get_session_config_entry("session.inter_op.allow_spinning") == "0"
    assert backend._session.get_providers() == ["CPUExecutionProvider"]


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (BackendConfig("onnxruntime", precision="bf16"), "computes in fp32, not in bf16: use `openvino`"),
        (BackendConfig("onnxruntime-cuda", precision="fp16"), "computes in fp32, not in fp16: use `openvino`"),
        (BackendConfig("onnxruntime", device="cuda"), "runs on the CPU; for a GPU name `onnxruntime-cuda`"),
        (BackendConfig("onnxruntime-openvino", device="cuda"), "runs on the CPU; for a GPU name `onnxruntime-cuda`"),
    ],
)
def test_what_it_would_quietly_do_otherwise_is_refused(folder: Path, config: BackendConfig, says: str) -> None:
    with pytest.raises(InvalidModel, match=says):
        OnnxBackend(artifacts.affine(folder / "m.onnx"), 1, config)


@pytest.mark.parametrize("name", ["onnxruntime-cuda", "onnxruntime-tensorrt"])
def test_a_gpu_that_is_not_there_is_not_replaced_by_the_cpu(folder: Path, name: str) -> None:
    given = {"x": np.ones((1, 64), np.float32)}
    path = artifacts.affine(folder / "m.onnx")
    try:
        backend = OnnxBackend(path, 1, BackendConfig(name, device="cuda"))
    except InvalidModel as refused:
        assert re.search(r"pip install onnxruntime-gpu|is there a GPU", refused.message)  # noqa: PT017
    else:
        assert backend.name == name
        assert backend._session.get_providers()[0] != "CPUExecutionProvider"
        assert backend.run(given)["y"].shape == (1, 10)


def test_openvinos_provider_runs_it_or_says_what_does(folder: Path) -> None:
    pytest.importorskip("onnxruntime_ep_openvino", reason="needs OpenVINO's provider for ONNX Runtime")
    path = artifacts.affine(folder / "m.onnx")
    config = BackendConfig("onnxruntime-openvino", precision="fp32")
    if _plugin_devices():
        backend = OnnxBackend(path, 1, config)
        assert backend.name == "onnxruntime-openvino"
        assert "OpenVINOExecutionProvider" in backend._session.get_providers()
        given = np.random.default_rng(0).standard_normal((8, 64)).astype(np.float32)
        np.testing.assert_allclose(backend.run({"x": given})["y"], given @ artifacts.weights() + 1, atol=1e-4)
        return
    with pytest.raises(InvalidModel, match=r"finds no CPU that it runs on .*use the backend `openvino`"):
        OnnxBackend(path, 1, config)
    with pytest.raises(InvalidModel, match="finds no CPU"):  # and again: a process registers the provider once
        OnnxBackend(path, 1, config)


@pytest.mark.parametrize(("precision", "hint"), [("fp32", "f32"), ("bf16", "bf16"), ("fp16", "f16")])
def test_openvinos_provider_is_told_its_precision_and_threads(precision: str, hint: str) -> None:
    told = json.loads(_openvino_config(3, precision))["CPU"]
    assert told["INFERENCE_PRECISION_HINT"] == hint
    assert told["INFERENCE_NUM_THREADS"] == "3"


def test_threads_are_as_many_as_asked_for_and_end_with_the_backend(folder: Path) -> None:
    before = len(os.listdir("/proc/self/task"))
    backend = OnnxBackend(artifacts.affine(folder / "m.onnx"), threads=4)
    assert len(os.listdir("/proc/self/task")) == before + 3, "the caller's thread computes too"
    backend.close()
    assert len(os.listdir("/proc/self/task")) == before


def assert_readable(error: ForwardpassError) -> None:
    """One short line, and nothing of the library's source."""
    assert "\n" not in error.message
    assert len(error.message) < 400
    for noise in (".cc:", ".h:", "::", "ONNXRuntimeError", "onnxruntime_src", "Status Message"):
        assert noise not in error.message
