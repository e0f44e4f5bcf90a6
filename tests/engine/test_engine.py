"""One loaded version in this process: plain artifacts, pipelines, and what is wrong with a folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests import artifacts

import forwardpass
from forwardpass.engine.engine import Engine
from forwardpass.errors import BackendFailed, InvalidInput, InvalidModel, InvalidRows, NotFound
from forwardpass.types import DType, InputType, TensorSpec

STEPS = """
import numpy as np
from forwardpass import step
from forwardpass.errors import InvalidRows

@step(reads=["text"], writes={"x": "FP32[2]"})
def measure(columns, *, unit: float = 1.0):
    bad = {row: "is blank" for row, text in enumerate(columns["text"]) if text == " "}
    if bad:
        raise InvalidRows(bad)
    rows = [[len(text) / unit, text.count(" ")] for text in columns["text"]]
    return {"x": np.array(rows, np.float64).reshape(-1, 2)}

@step(reads=["y"], writes={"long": "BOOL"})
def judge(columns, *, above: float):
    return {"long": columns["y"][:, 0] > above}

@step(reads=["x"], writes=["x"])
def lose_a_row(columns):
    return {"x": columns["x"][1:]}
"""
TEXT_MODEL = """
inputs: {text: {type: text}}
preprocess: [{step: measure, unit: 2.0}]
postprocess: [{step: judge, above: 3.0}]
"""


def write_model(folder: Path, config: str, steps: str = STEPS) -> Path:
    """A model folder around ``y = x`` with rows of two floats."""
    artifacts.identity(folder / "model.onnx")
    (folder / "model.yaml").write_text(config)
    (folder / "steps.py").write_text(steps)
    return folder


def test_a_bare_artifact_runs_as_it_is(folder: Path) -> None:
    engine = forwardpass.load(artifacts.affine(folder / "net.onnx"), threads=1)
    x = np.random.default_rng(1).standard_normal((3, 64)).astype(np.float32)
    answer, times = engine.run({"x": x})
    np.testing.assert_allclose(answer["y"], x @ artifacts.weights() + 1, rtol=1e-4, atol=1e-5)
    assert times.forward > 0
    assert times.total == times.forward
    assert (engine.name, engine.version) == ("net", "1")
    assert engine.signature.batched
    assert [item.tensor for item in engine.signature.inputs] == [TensorSpec("x", DType.FP32, (None, 64))]
    assert engine.signature.outputs == (TensorSpec("y", DType.FP32, (None, 10)),)
    assert (engine.info.backend, engine.info.artifact) == ("onnxruntime", "net.onnx")


def test_the_same_rows_however_they_are_written(folder: Path) -> None:
    engine = forwardpass.load(artifacts.affine(folder / "m.onnx"))
    x = np.random.default_rng(1).standard_normal((3, 64)).astype(np.float32)
    expected = engine.run({"x": x})[0]["y"]
    columns = engine.predict({"x": x.tolist()})
    assert columns["y"].tolist() == expected.tolist()
    rows: list[Any] = [x.tolist(), x, [{"x": row} for row in x.tolist()]]
    for given in rows:
        assert engine.predict(given) == expected.tolist()


def test_zero_rows(folder: Path) -> None:
    assert forwardpass.load(artifacts.affine(folder / "m.onnx")).predict([]) == []
    assert forwardpass.load(write_model(folder / "text", TEXT_MODEL)).predict([]) == []


def test_a_pipeline_around_the_artifact(folder: Path) -> None:
    engine = forwardpass.load(write_model(folder, TEXT_MODEL))
    answer, times = engine.run({"text": np.array(["a b", "a long one"], object)})
    assert answer["y"].tolist() == [[1.5, 1.0], [5.0, 2.0]]
    assert answer["long"].tolist() == [False, True]
    assert min(times.preprocess, times.forward, times.postprocess) > 0
    assert engine.predict(["a b", {"text": "a long one"}]) == [
        {"y": [1.5, 1.0], "long": False},
        {"y": [5.0, 2.0], "long": True},
    ]


def test_a_pipeline_in_words(folder: Path) -> None:
    engine = forwardpass.load(write_model(folder, TEXT_MODEL))
    (text,) = engine.signature.inputs
    assert (text.name, text.type, text.tensor.dtype) == ("text", InputType.TEXT, DType.BYTES)
    assert [(item.name, item.dtype) for item in engine.signature.outputs] == [("y", "FP32"), ("long", "BOOL")]
    assert engine.info.preprocess == ("measure(unit=2.0)",)
    assert engine.info.postprocess == ("judge(above=3.0)",)


def test_only_the_outputs_asked_for(folder: Path) -> None:
    engine = forwardpass.load(write_model(folder, TEXT_MODEL + "outputs: [long]\n"))
    assert engine.predict(["a b", "a long one"]) == [False, True]


def test_a_row_that_a_step_refuses_is_named(folder: Path) -> None:
    engine = forwardpass.load(write_model(folder, TEXT_MODEL))
    with pytest.raises(InvalidRows, match="row 1: is blank"):
        engine.predict(["a", " "])


def test_a_step_that_loses_rows_gives_nobody_anothers_answer(folder: Path) -> None:
    engine = forwardpass.load(write_model(folder, "preprocess: [{step: lose_a_row}]"))
    with pytest.raises(BackendFailed, match="step 'lose_a_row' wrote 1 rows to 'x' where 2 came in"):
        engine.predict([[1, 2], [3, 4]])


def test_declared_ranges_are_checked(folder: Path) -> None:
    engine = forwardpass.load(write_model(folder, "inputs: {x: {minimum: 0}}"))
    assert engine.predict([[1, 2]]) == [[1.0, 2.0]]
    with pytest.raises(InvalidRows, match=r"row 1: input 'x': -3.* is below the minimum 0"):
        engine.predict([[1, 2], [-3, 4]])


@pytest.mark.parametrize(
    ("first", "second", "config", "batched"),
    [
        ("N", "N", "", True),
        ("N", "N", "batching: false", False),
        ("N", "M", "", False),
        ("N", "M", "batching: true", True),
    ],
)
def test_batching_is_by_the_artifact_unless_told(
    folder: Path, first: str, second: str, config: str, batched: bool
) -> None:
    artifacts.two_inputs(folder / "model.onnx", first, second)
    (folder / "model.yaml").write_text(config)
    engine = forwardpass.load(folder)
    assert engine.signature.batched is batched
    rows = {"a": [[1, 2, 3]] * 2, "b": [[1, 1, 1]] * 2}
    assert engine.predict(rows)["total"].tolist() == [[2, 3, 4]] * 2


def test_a_model_without_rows_takes_whole_tensors(folder: Path) -> None:
    engine = forwardpass.load(artifacts.no_batch_axis(folder / "m.onnx"))
    assert not engine.signature.batched
    assert engine.predict({"x": [1, 2, 3, 4]})["y"].tolist() == [2.0, 4.0, 6.0, 8.0]
    assert forwardpass.load(artifacts.scalar_output(folder / "s.onnx")).predict([[[1, 2], [3, 4]]]) == [10.0]
    with pytest.raises(InvalidInput, match="exactly one instance"):
        engine.predict([[1, 2, 3, 4]] * 2)


def test_every_version_folder_is_its_own_version(folder: Path) -> None:
    artifacts.affine(folder / "1" / "model.onnx", outputs=2)
    artifacts.affine(folder / "2" / "model.onnx", outputs=3)
    newest = forwardpass.load(folder)
    assert (newest.name, newest.version, newest.signature.outputs[0].shape) == (folder.name, "2", (None, 3))
    first = forwardpass.load(str(folder / "1"))
    assert (first.name, first.version, first.signature.outputs[0].shape) == (folder.name, "1", (None, 2))


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("preprocess: [{step: mesure}]", "preprocess 1: unknown step 'mesure'. Did you mean 'measure'"),
        ("preprocess: [{step: measure}]", r"preprocess 1 \(measure\): there is no column 'text' here"),
        ("inputs: {text: {type: text}}", "the artifact takes 'x', which no step writes"),
        ("postprocess: [{step: judge}]", r"postprocess 1 \(judge\).*above"),
        ("postprocess: [{step: judge, above: high}]", r"postprocess 1 \(judge\).*above"),
        ("postprocess: [{step: judge, above: 1, below: 2}]", "unknown key 'below'"),
        ("outputs: [z]", "outputs: there is no column 'z'"),
        ("inputs: {q: {}}", "inputs: q: the artifact has no input of that name"),
        ("inputs: {text: {type: texts}}", "texts"),
        ("batching: perhaps", "batching"),
    ],
)
def test_what_is_wrong_with_a_model_yaml(folder: Path, config: str, says: str) -> None:
    with pytest.raises(InvalidModel, match=says):
        forwardpass.load(write_model(folder, config))


def test_what_is_wrong_with_a_steps_file(folder: Path) -> None:
    with pytest.raises(InvalidModel, match=r"steps\.py: cannot be imported: ZeroDivisionError"):
        forwardpass.load(write_model(folder, "", steps="1 / 0"))


def test_what_cannot_be_loaded(folder: Path) -> None:
    with pytest.raises(NotFound, match="there is no such file or folder"):
        forwardpass.load(folder / "nothing")
    (folder / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(InvalidModel, match="is not an ONNX file"):
        forwardpass.load(folder)


def test_closing_ends_the_threads(folder: Path) -> None:
    before = len(os.listdir("/proc/self/task"))
    (folder / "model.yaml").write_text("threads: 3")
    artifacts.affine(folder / "model.onnx")
    engine = forwardpass.load(folder)
    assert len(os.listdir("/proc/self/task")) == before + 2
    engine.close()
    assert len(os.listdir("/proc/self/task")) == before


def test_the_public_names() -> None:
    assert forwardpass.Engine is Engine
    assert set(forwardpass.__all__) >= {"Engine", "load", "step"}
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        _ = forwardpass.lod


TELEMETRY = """
import sys
import forwardpass, os
assert "onnxruntime" not in sys.modules, "imported before it could be told to be quiet"
assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
import onnxruntime
print(forwardpass.load(sys.argv[1]).predict([[1.0, 2.0]]))
"""


def test_the_library_does_not_phone_home(folder: Path, tmp_path: Path) -> None:
    """With telemetry on, the first session writes a device id below the cache folder."""
    home = tmp_path / "home"
    home.mkdir()
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("ORT_", "XDG_"))}
    environ |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}
    path = artifacts.identity(folder / "m.onnx")
    ran = subprocess.run(
        [sys.executable, "-c", TELEMETRY, path], env=environ, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stdout) == (0, "[[1.0, 2.0]]\n"), ran.stderr
    assert list(home.rglob("*")) == []
