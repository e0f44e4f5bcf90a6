"""``inspect``: facts for people and programs, and where ``model.yaml`` is wrong."""

from __future__ import annotations

import json
from pathlib import Path

from tests import artifacts
from typer.testing import CliRunner

from forwardpass.cli.main import app
from forwardpass.cli.portrait import size_in_words

MODEL = """\
description: Says how large it is
inputs:
  size: {type: number, minimum: 0, maximum: 9.5, required: false, description: metres}
  kind: {type: category, categories: [red, blue]}
preprocess:
  - {step: impute, values: {size: 1}}
  - {step: ordinal, input: kind, categories: [red, blue]}
  - {step: stack_columns, inputs: [size, kind], output: x}
limits: {max_batch_size: 7}
tags: {owner: me}
"""


def write(folder: Path, text: str = MODEL) -> str:
    artifacts.identity(folder / "model.onnx")
    (folder / "model.yaml").write_text(text)
    return str(folder)


def test_what_a_model_takes_does_and_gives(folder: Path) -> None:
    result = CliRunner().invoke(app, ["inspect", write(folder)])
    assert result.exit_code == 0, result.output
    for text in (
        "model-under-test 1",
        "Says how large it is",
        "ai.onnx opset 19",
        "inputs  x: FP32[?, 2]",
        "size: number; metres; 0 to 9.5; may be left out",
        "kind: category; one of red, blue",
        "3. stack_columns(inputs=[size, kind], output=x)",
        "y: FP32[?, 2]",
        "max_batch_size=7",
        "owner=me",
    ):
        assert text in result.stdout


def test_the_same_as_json(folder: Path) -> None:
    facts = json.loads(CliRunner().invoke(app, ["inspect", write(folder), "--json"]).stdout)
    assert facts["inputs"][0]["maximum"] == 9.5
    assert facts["artifact"]["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [None, 2]}]
    assert facts["artifact"]["bytes"] == (folder / "model.onnx").stat().st_size
    assert facts["limits"]["max_batch_size"] == 7
    assert facts["batched"] is True
    assert "problem" not in facts


def test_where_model_yaml_is_wrong_and_what_the_artifact_is_nevertheless(folder: Path) -> None:
    path = write(folder, MODEL.replace("max_batch_size", "max_batch_sise"))
    result = CliRunner().invoke(app, ["inspect", path])
    assert result.exit_code == 1
    assert "unknown key 'max_batch_sise'. Did you mean 'max_batch_size'?" in result.stdout
    assert f"see {folder / 'model.yaml'}, line 9" in result.stdout
    assert "inputs  x: FP32[?, 2]" in result.stdout


def test_a_wrong_model_yaml_above_its_versions(folder: Path) -> None:
    write(folder, "colour: red\n")
    (folder / "model.onnx").unlink()
    artifacts.identity(folder / "2" / "model.onnx")
    facts = json.loads(CliRunner().invoke(app, ["inspect", str(folder), "--json"]).stdout)
    assert facts["problem"]["file"] == str(folder / "model.yaml")
    assert facts["problem"]["line"] == 1


def test_an_artifact_that_is_none(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"no")
    result = CliRunner().invoke(app, ["inspect", str(folder)])
    assert result.exit_code == 1
    assert "cannot be used: model.onnx: is not an ONNX file" in result.stdout
    assert "see " not in result.stdout


def test_all_models_of_a_repository(tmp_path: Path) -> None:
    write(tmp_path / "good")
    write(tmp_path / "wrong", "nonsense")
    result = CliRunner().invoke(app, ["inspect", str(tmp_path), "--json"])
    found = {facts["name"]: "problem" in facts for facts in map(json.loads, result.stdout.splitlines())}
    assert found == {"good": False, "wrong": True}
    assert result.exit_code == 1


def test_sizes_in_words() -> None:
    assert [size_in_words(count) for count in (12, 1735, 3 * 2**20, 5 * 2**30)] == [
        "12 bytes",
        "1.7 KiB",
        "3.0 MiB",
        "5.0 GiB",
    ]
