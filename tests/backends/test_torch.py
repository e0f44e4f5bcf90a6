"""PyTorch: names, types and shapes of exported programs, what goes wrong in words, and archives that would run code."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forwardpass.config import BackendConfig
from forwardpass.errors import BackendFailed, InvalidInput, InvalidModel
from forwardpass.types import Array, Columns, DType, TensorSpec

pytest.importorskip("torch", reason="torch is not installed: an extra")

from importlib import import_module

from forwardpass.backends.torch import TorchBackend
from forwardpass.backends.torch_archive import code_in_archive

torch: Any = import_module("torch")
Function = Callable[..., Any]


def export(path: Path, forward: Function, *args: Any, free: int | None = 0, prepare: Function | None = None) -> Path:
    """A program that computes ``forward``; axis ``free`` of every tensor is one dynamic axis."""
    module = torch.nn.Module()
    if prepare:
        prepare(module)
    module.forward = forward.__get__(module)
    rows = torch.export.Dim("rows")
    axes = None if free is None else tuple({free: rows} for _ in args)
    program = torch.export.export(module.eval(), args, dynamic_shapes=axes)
    torch.export.save(program, path)
    return path


def affine(path: Path) -> Path:
    """``output = x @ w + 1``: ``w`` are ones, so each value is the sum of its row and one."""

    def prepare(module: Any) -> None:
        module.w = torch.nn.Parameter(torch.ones(4, 2))

    return export(path, lambda self, x: x @ self.w + 1, torch.randn(2, 4), prepare=prepare)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return affine(tmp_path_factory.mktemp("torch") / "affine.pt2")


def x(rows: int = 3) -> Columns:
    return {"x": np.ones((rows, 4), np.float32)}


def test_one_tensor_is_called_output(saved: Path) -> None:
    backend = TorchBackend(saved, threads=1)
    assert backend.inputs == (TensorSpec("x", DType.FP32, (None, 4)),)
    assert backend.outputs == (TensorSpec("output", DType.FP32, (None, 2)),)
    assert backend.batched
    assert backend.run(x(3))["output"].tolist() == [[5.0, 5.0]] * 3
    assert backend.run(x(1))["output"].shape == (1, 2)
    assert backend.run(x(0))["output"].shape == (0, 2)


def test_a_dictionary_names_its_outputs(folder: Path) -> None:
    path = export(
        folder / "m.pt2",
        lambda self, left, right: {"total": left + right, "first": left * 1},
        *(torch.randn(2, 3), torch.randn(2, 3)),
    )
    backend = TorchBackend(path, threads=1)
    assert [spec.name for spec in backend.inputs] == ["left", "right"]
    assert backend.batched
    answer = backend.run({"right": np.full((1, 3), 2, np.float32), "left": np.ones((1, 3), np.float32)})
    assert {name: array.tolist() for name, array in answer.items()} == {"total": [[3.0] * 3], "first": [[1.0] * 3]}


def test_axes_that_were_one_at_export_must_be_of_one_length(folder: Path) -> None:
    """Or one row would be spread over the rows of the other input."""
    path = export(folder / "m.pt2", lambda self, a, b: a + b, torch.randn(2, 3), torch.randn(2, 3))
    with pytest.raises(InvalidInput, match="axis 0 of input 'b' is 1 long; that of 'a' is 2"):
        TorchBackend(path, threads=1).run({"a": np.ones((2, 3), np.float32), "b": np.ones((1, 3), np.float32)})


def test_an_axis_has_the_greatest_length_of_its_export(folder: Path) -> None:
    rows = torch.export.Dim("rows", max=8)
    program = torch.export.export(torch.nn.ReLU(), (torch.randn(2, 3),), dynamic_shapes=({0: rows},))
    torch.export.save(program, folder / "m.pt2")
    backend = TorchBackend(folder / "m.pt2", threads=1)
    name = backend.inputs[0].name
    assert backend.run({name: np.ones((8, 3), np.float32)})["output"].shape == (8, 3)
    with pytest.raises(InvalidInput, match="9 long; the artifact takes at most 8"):
        backend.run({name: np.ones((9, 3), np.float32)})


def test_a_tuple_numbers_its_outputs_and_fixed_axes_are_not_batched(folder: Path) -> None:
    path = export(folder / "m.pt2", lambda self, x: (x + 1, x.sum()), torch.zeros(2, 3), free=None)
    backend = TorchBackend(path, threads=1)
    assert [(spec.name, spec.shape) for spec in backend.outputs] == [("output_0", (2, 3)), ("output_1", ())]
    assert not backend.batched
    with pytest.raises(InvalidInput, match=r"shape \[3, 3\]"):
        backend.run({"x": np.zeros((3, 3), np.float32)})


@pytest.mark.parametrize("dtype", [DType.BOOL, DType.UINT8, DType.INT64, DType.FP16, DType.BF16, DType.FP64])
def test_types_go_through_unchanged_and_answers_are_the_callers_own(folder: Path, dtype: DType) -> None:
    own = getattr(torch, {"FP16": "float16", "BF16": "bfloat16", "FP64": "float64"}.get(dtype, dtype.lower()))
    backend = TorchBackend(export(folder / "m.pt2", lambda self, x: x, torch.zeros(2, 2, dtype=own)), threads=1)
    given = np.array([[0, 1], [1, 1]]).astype(dtype.numpy)
    given.flags.writeable = False
    answer = backend.run({"x": given})["output"]
    assert backend.inputs[0].dtype is dtype
    assert (answer.dtype, answer.tolist()) == (given.dtype, given.tolist())
    answer[:] = 0  # neither the caller's columns nor the program's memory
    assert backend.run({"x": given})["output"].tolist() == given.tolist()


def test_weights_are_not_given_away(folder: Path) -> None:
    def prepare(module: Any) -> None:
        module.w = torch.nn.Parameter(torch.ones(2))

    backend = TorchBackend(
        export(folder / "m.pt2", lambda self, x: (x + self.w, self.w), torch.zeros(2, 2), prepare=prepare), threads=1
    )
    given = {"x": np.zeros((1, 2), np.float32)}
    backend.run(given)["output_1"][:] = 9
    assert backend.run(given)["output_0"].tolist() == [[1.0, 1.0]]


def test_strided_columns_are_read_as_what_they_say(saved: Path) -> None:
    numbers = np.arange(24, dtype=np.float32).reshape(3, 8)[::-1, ::2]
    answer = TorchBackend(saved, threads=1).run({"x": numbers})["output"]
    assert answer[:, 0].tolist() == (numbers.sum(axis=1) + 1).tolist()


def test_a_program_that_changes_its_input_leaves_the_callers_alone(folder: Path) -> None:
    backend = TorchBackend(export(folder / "m.pt2", lambda self, x: x.mul_(2), torch.zeros(2, 2)), threads=1)
    given = {"x": np.ones((1, 2), np.float32)}
    assert backend.run(given)["output"].tolist() == [[2.0, 2.0]]
    assert given["x"].tolist() == [[1.0, 1.0]]


def test_a_program_with_state_is_refused(folder: Path) -> None:
    def prepare(module: Any) -> None:
        module.register_buffer("count", torch.zeros(()))

    def forward(self: Any, x: Any) -> Any:
        self.count += 1
        return x + self.count

    with pytest.raises(InvalidModel, match=r"changes its own buffers .*\(count\).*model\.eval\(\)"):
        TorchBackend(export(folder / "m.pt2", forward, torch.zeros(2, 2), prepare=prepare), threads=1)


def test_a_network_left_in_training_is_refused(folder: Path) -> None:
    """Its batch normalisation learns from what it is asked, and one row's answer hangs on its neighbours."""
    program = torch.export.export(torch.nn.BatchNorm1d(2).train(), (torch.randn(4, 2),))
    torch.export.save(program, folder / "m.pt2")
    with pytest.raises(InvalidModel, match=r"running_mean.*model\.eval\(\)"):
        TorchBackend(folder / "m.pt2", threads=1)


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({}, "input 'x' is missing"),
        ({"x": np.ones((1, 4)), "y": np.ones(1)}, "no input 'y'"),
        ({"x": np.ones((1, 4))}, "float64"),
        ({"x": np.ones((1, 5), np.float32)}, r"\[1, 5\]"),
        ({"x": np.ones(4, np.float32)}, r"\[4\]"),
    ],
)
def test_wrong_tensors_are_the_callers_fault(saved: Path, columns: Columns, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        TorchBackend(saved, threads=1).run(columns)


def test_values_and_sizes_that_do_not_fit_inside_are_the_callers_fault(folder: Path) -> None:
    def prepare(module: Any) -> None:
        module.table = torch.nn.Embedding(4, 2)

    path = export(folder / "m.pt2", lambda self, word: self.table(word), torch.tensor([0, 1]), prepare=prepare)
    backend = TorchBackend(path, threads=1)
    with pytest.raises(InvalidInput, match="out of range"):
        backend.run({"word": np.array([99])})
    assert backend.run({"word": np.array([3])})["output"].shape == (1, 2), "the next request is answered"


def test_an_artifact_that_fails_is_its_own_fault(folder: Path) -> None:
    path = export(folder / "m.pt2", lambda self, x: torch.linalg.cholesky(x), torch.eye(2).repeat(2, 1, 1))
    with pytest.raises(BackendFailed, match=r"the artifact failed: linalg\.cholesky") as caught:
        TorchBackend(path, threads=1).run({"x": -np.ones((1, 2, 2), np.float32)})
    assert "\n" not in caught.value.message


def test_bf16_computes_in_bf16_and_answers_in_fp32(saved: Path) -> None:
    given: Columns = {"x": np.full((1, 4), 1.001, np.float32)}
    exact = TorchBackend(saved, threads=1).run(given)["output"]
    rounded = TorchBackend(saved, threads=1, config=BackendConfig(precision="bf16")).run(given)["output"]
    assert rounded.dtype == np.float32
    assert 1e-4 < np.abs(exact - rounded).max() < 0.05


def test_cuda_where_there_is_none_is_refused(saved: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(InvalidModel, match="finds no CUDA device"):
        TorchBackend(saved, threads=1, config=BackendConfig(device="cuda"))


def test_threads_are_as_many_as_the_last_loaded_and_each_run_has_its_own(saved: Path) -> None:
    two, one = TorchBackend(saved, threads=2), TorchBackend(saved, threads=1)
    two.run(x())
    assert torch.get_num_threads() == 2
    one.run(x())
    assert torch.get_num_threads() == 1


@pytest.mark.slow  # a process that imports torch
def test_a_child_forked_after_the_import_computes(saved: Path) -> None:
    program = (
        "import os, sys, numpy as np\n"
        "import forwardpass.backends.torch as module\n"
        "from pathlib import Path\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    backend = module.TorchBackend(Path(sys.argv[1]), threads=2)\n"
        "    answer = backend.run({'x': np.ones((64, 4), np.float32)})['output']\n"
        "    os._exit(0 if answer.sum() == 640 else 3)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(saved)], capture_output=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize("content", [None, b"", b"\x80\x02}q\x00.", b"PK\x05\x06" + bytes(18)])
def test_what_is_no_archive(folder: Path, content: bytes | None) -> None:
    if content is not None:
        (folder / "m.pt2").write_bytes(content)
    with pytest.raises(InvalidModel, match=r"^m\.pt2: (there is no such file|is not a \.pt2 archive)"):
        TorchBackend(folder / "m.pt2", threads=1)


def test_an_archive_cut_short(saved: Path, folder: Path) -> None:
    (folder / "m.pt2").write_bytes(saved.read_bytes()[:-200])
    with pytest.raises(InvalidModel, match="cut short"):
        TorchBackend(folder / "m.pt2", threads=1)


# Hostile archives: each of the first group does run its code under plain torch.export.load and a call.


def rewrite(saved: Path, target: Path, change: Callable[[str, bytes], bytes], extra: str = "") -> Path:
    """A copy of an archive with changed records; ``extra`` names one more."""
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(target, "w") as new:
        root = old.namelist()[0].split("/")[0]
        for name in old.namelist():
            new.writestr(f"m/{name.removeprefix(root + '/')}", change(name, old.read(name)))
        if extra:
            new.writestr(f"m/{extra}", b"x")
    return target


def in_program(edit: Callable[[Any], Any]) -> Callable[[str, bytes], bytes]:
    def change(name: str, content: bytes) -> bytes:
        if "/models/" not in name:
            return content
        program = json.loads(content)
        edit(program)
        return json.dumps(program).encode()

    return change


def call_system(program: Any) -> None:
    program["graph_module"]["graph"]["nodes"][0]["target"] = "torch.os.system"


def code_as_size(program: Any) -> None:
    sizes = program["graph_module"]["graph"]["tensor_values"]["x"]["sizes"]
    sizes[0] = {"as_expr": {"expr_str": "__import__('os').getpid()", "hint": {"as_int": 2}}}


def code_as_name(program: Any) -> None:
    text = json.dumps(program).replace('"name": "x"', '"name": "x=print(1)"')
    program.clear()
    program.update(json.loads(text))


def foreign_tree(program: Any) -> None:
    call = program["graph_module"]["module_call_graph"][0]["signature"]
    call["in_spec"] = call["in_spec"].replace("builtins.tuple", "collections.defaultdict")


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (call_system, "calls 'torch.os.system'"),
        (code_as_size, "where the size of an axis belongs"),
        (code_as_name, "where a name belongs"),
        (foreign_tree, "other things than tuples"),
    ],
)
def test_a_program_that_would_run_code_is_refused(
    saved: Path, folder: Path, edit: Callable[[Any], None], says: str
) -> None:
    with pytest.raises(InvalidModel, match=says):
        TorchBackend(rewrite(saved, folder / "m.pt2", in_program(edit)), threads=1)


def test_the_same_archive_without_the_code_is_loaded(saved: Path, folder: Path) -> None:
    """Or the tests above would hold for any archive that was written again."""
    backend = TorchBackend(rewrite(saved, folder / "m.pt2", in_program(lambda program: None)), threads=1)
    assert backend.run(x(1))["output"].tolist() == [[5.0, 5.0]]


class Marker:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._path,)


def test_pickled_example_inputs_do_not_run(saved: Path, folder: Path) -> None:
    """The library would read them safely, fail, and read them again unsafely."""
    buffer = io.BytesIO()
    torch.save((Marker(folder / "ran"),), buffer)
    path = rewrite(saved, folder / "m.pt2", lambda name, old: buffer.getvalue() if "sample_inputs" in name else old)
    with pytest.raises(InvalidModel, match="cannot load it"):
        TorchBackend(path, threads=1)
    assert not (folder / "ran").exists()
    logging.disable()  # its warning of this has one argument too few
    torch.export.load(path)
    logging.disable(logging.NOTSET)
    assert (folder / "ran").exists(), "plain torch runs it: the archive is truly hostile"


@pytest.mark.parametrize("extra", ["data/aotinductor/model/a.so", "data/weights/model.pt", "data/constants/model.pt"])
def test_compiled_code_and_pickles_are_refused(saved: Path, folder: Path, extra: str) -> None:
    path = rewrite(saved, folder / "m.pt2", lambda _, content: content, extra)
    with pytest.raises(InvalidModel, match=r"^m\.pt2 holds (compiled code|a pickle) .*FORWARDPASS_ALLOW_CODE"):
        TorchBackend(path, threads=1)


def test_pickled_weights_are_refused() -> None:
    config = {"config": {"w": {"path_name": "weight_0", "use_pickle": True}}}
    objects = {"config": {"o": {"path_name": "opaque_obj_0", "use_pickle": False}}}
    for payload in (config, objects):
        content = json.dumps(payload).encode()
        assert "pickle" in code_in_archive(["data/weights/model_weights_config.json"], lambda _, c=content: c)  # type: ignore[misc]


def test_a_trusted_archive_is_loaded(saved: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator who names the model; the name of an input that is no harmless one is all that is wrong here."""
    path = rewrite(saved, folder / "m.pt2", in_program(lambda program: program.update(note="any text; at all")))
    with pytest.raises(InvalidModel, match="where a name belongs"):
        TorchBackend(path, threads=1)
    monkeypatch.setenv("FORWARDPASS_ALLOW_CODE", "m")
    answer: Array = TorchBackend(path, threads=1).run(x(1))["output"]
    assert answer.shape == (1, 2)
