"""``predict`` with a model on disk."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests import artifacts
from typer.testing import CliRunner, Result

import forwardpass
from forwardpass.cli.example import tiny_image
from forwardpass.cli.main import app
from forwardpass.errors import ForwardpassError, NotFound


def run(*arguments: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(app, ["predict", *arguments], input=stdin)


def lines(result: Result) -> list[object]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture
def plain(folder: Path) -> str:
    artifacts.identity(folder / "model.onnx")
    return str(folder)


def test_rows_as_json(plain: str) -> None:
    assert lines(run(plain, "--json", "--body", '{"instances": [[1, 2], [3, 4]]}')) == [[1.0, 2.0], [3.0, 4.0]]


def test_the_same_answer_as_load(folder: Path) -> None:
    artifacts.affine(folder / "model.onnx", inputs=3, outputs=2)
    rows = np.random.default_rng(1).standard_normal((4, 3)).tolist()
    answer = lines(run(str(folder), "--json", "--body", json.dumps(rows)))
    assert answer == forwardpass.load(folder).predict(rows)


def test_rows_from_standard_input(plain: str) -> None:
    assert lines(run(plain, "-", "--json", stdin=b"[[1, 2]]")) == [[1.0, 2.0]]


def test_rows_of_a_table(plain: str, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n3,4\n")
    assert lines(run(plain, str(tmp_path / "rows.csv"), "--json")) == [[1.0, 2.0], [3.0, 4.0]]


def test_set_and_text(tmp_path: Path) -> None:
    artifacts.two_inputs(tmp_path / "two" / "model.onnx")
    (tmp_path / "two" / "model.yaml").write_text(
        "inputs: {p: {type: number}, q: {type: number}}\npreprocess:\n"
        "  - {step: stack_columns, inputs: [p, q, p], output: a}\n"
        "  - {step: stack_columns, inputs: [q, q, q], output: b}\n"
    )
    assert lines(run(str(tmp_path / "two"), "--set", "p=1", "--set", "q=2.5", "--json")) == [[3.5, 5.0, 3.5]]
    artifacts.identity(tmp_path / "echo" / "model.onnx", "BYTES", ["N"])
    assert lines(run(str(tmp_path / "echo"), "--text", "a=b", "--text", "c", "--json")) == ["a=b", "c"]


def test_a_model_without_rows_takes_its_one_tensor(folder: Path) -> None:
    artifacts.no_batch_axis(folder / "model.onnx")
    assert lines(run(str(folder), "--body", "[[1, 2, 3, 4]]", "--json")) == [[2.0, 4.0, 6.0, 8.0]]


def test_the_table_for_people_names_each_row(plain: str, tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text("[[1, 2]]")
    result = run(plain, "--body", "[[0.123456, 2], [3, 4]]", str(tmp_path / "one.json"))
    shown = [line.split(maxsplit=2) for line in result.stdout.splitlines()]
    assert shown[0] == ["row", "prediction"]
    assert shown[1] == ["--body", "0", "[0.1235, 2]"]
    assert shown[3][0] == str(tmp_path / "one.json")


def test_the_sample_where_nothing_is_given(plain: str) -> None:
    (Path(plain) / "sample.json").write_text('{"instances": [[8, 9]]}')
    assert lines(run(plain, "--json")) == [[8.0, 9.0]]


def test_nothing_given_and_no_sample(plain: str) -> None:
    result = run(plain)
    assert result.exit_code == 2
    assert "--body" in result.stderr


def test_a_wrong_input_is_named_and_does_not_stop_the_others(plain: str, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(tiny_image())
    (tmp_path / "good.json").write_text("[[1, 2]]")
    (tmp_path / "worse.json").write_text("[[1,")
    result = run(plain, *(str(tmp_path / name) for name in ("bad.png", "worse.json", "good.json")), "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == [1.0, 2.0]
    first, second = result.stderr.splitlines()
    assert first.startswith(f"forwardpass: {tmp_path / 'bad.png'}: ")
    assert str(tmp_path / "worse.json") in second


@pytest.mark.parametrize("flags", [["--set", "a"], ["--set", "=1"], ["--format", "yaml", "-"]])
def test_wrong_flags(plain: str, flags: list[str]) -> None:
    assert run(plain, *flags).exit_code == 2


def test_no_such_model(tmp_path: Path) -> None:
    result = run(str(tmp_path / "nowhere"), "--body", "[1]")
    assert isinstance(result.exception, NotFound)


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://h", "http://127.0.0.1:1"])
def test_no_such_server(url: str) -> None:
    result = run("m", "--url", url, "--body", "[1]")
    assert result.exit_code == 1
    assert isinstance(result.exception, ForwardpassError) or "must start with http" in result.stderr
