"""``bundle`` and what ``inspect`` says of bundles: keys, versions, rows, and one changed byte."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from tests import artifacts
from typer.testing import CliRunner, Result

from forwardpass.cli.main import app
from forwardpass.edge.bundle import verify
from forwardpass.edge.signing import create_key, read_public_keys
from forwardpass.errors import ForwardpassError, InvalidInput, InvalidModel, InvalidSettings, NotFound


@pytest.fixture(autouse=True)
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this person's keys lie."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "config" / "forwardpass"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    for version in ("1", "2"):
        artifacts.identity(tmp_path / "same" / version / "model.onnx")
    return tmp_path / "same"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


def done(*arguments: object) -> Result:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


def error(*arguments: object) -> ForwardpassError:
    raised = run(*arguments).exception
    assert isinstance(raised, ForwardpassError), repr(raised)
    return raised


def test_the_key_is_made_once_and_what_to_do_with_it_is_said(model: Path, keys: Path) -> None:
    first, second = done("bundle", model), done("bundle", model)
    assert stat.S_IMODE((keys / "bundle.key").stat().st_mode) == 0o600
    assert f"made the key {next(iter(read_public_keys(keys)))}: {keys / 'bundle.key'}" in first.stderr
    assert f"{keys / 'bundle.pub'}: copy that into keys/ of an agent's home" in first.stderr
    assert second.stderr == ""
    verify(Path("same-2.bundle"), read_public_keys(keys))


def test_a_version_a_file_and_json(model: Path, tmp_path: Path) -> None:
    told = json.loads(done("bundle", f"{model}@1", "-o", "some.bundle", "--target", "jetson", "--json").stdout)
    assert {name: told[name] for name in ("bundle", "name", "version", "target", "golden")} == {
        "bundle": "some.bundle",
        "name": "same",
        "version": "1",
        "target": "jetson",
        "golden": 12,
    }
    assert told["bytes"] == Path("some.bundle").stat().st_size
    assert isinstance(error("bundle", f"{model}@3"), NotFound)
    odd = artifacts.identity(tmp_path / "odd@2" / "model.onnx").parent  # a path that is there is taken as it is
    assert "odd@2" in error("bundle", odd).message


def test_what_own_steps_print_is_not_on_standard_output(model: Path) -> None:
    (model / "2" / "model.yaml").write_text("postprocess: [{step: loud}]\n")
    (model / "2" / "steps.py").write_text(
        "import forwardpass\nprint('imported')\n@forwardpass.step(reads=['y'], writes=['y'])\n"
        "def loud(columns):\n    print('called')\n    return {'y': columns['y']}\n"
    )
    made = done("bundle", model, "--json")
    assert json.loads(made.stdout)["version"] == "2"
    assert "imported" in made.stderr
    assert "called" in made.stderr


def test_rows_from_a_file(model: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.json"
    for body in ('{"instances": [[1, 2]]}', "[[1, 2], [3, 4]]"):
        rows.write_text(body)
        done("bundle", model, "--rows", rows)
    for body in ("", "{}", "[]", '{"instances": 3}'):
        rows.write_text(body)
        assert isinstance(error("bundle", model, "--rows", rows), InvalidInput)
    assert "No such file" in error("bundle", model, "--rows", "missing.json").message


def test_inspect_shows_who_signed_and_what_is_in_it(model: Path, keys: Path) -> None:
    done("bundle", model)
    shown = done("inspect", "same-2.bundle").stdout
    (name,) = read_public_keys(keys)
    for text in (
        "same 2  for linux-x86_64",
        f"signature  holds, by the key {name} (known here)",
        "runtime    numpy 2.4, onnxruntime 1.31",
        "golden     12 rows of same",
        "models/same/2/model.onnx",
    ):
        assert text in shown
    facts = json.loads(done("inspect", "same-2.bundle", "--json").stdout)
    assert (facts["key"], facts["key_known"], facts["golden_rows"]) == (name, True, {"same": 12})
    assert facts["files"]["models/same/2/model.onnx"]["size"] == (model / "2" / "model.onnx").stat().st_size


def test_a_key_that_is_not_known_and_one_that_must_be(model: Path, tmp_path: Path) -> None:
    create_key(tmp_path / "other.key")
    done("bundle", model, "--key", tmp_path / "other.key")
    assert "not known here: give the one it must be by --key" in done("inspect", "same-2.bundle").stdout
    assert "(known here)" in done("inspect", "same-2.bundle", "--key", tmp_path / "other.pub").stdout
    create_key(tmp_path / "third.key")
    raised = error("inspect", "same-2.bundle", "--key", tmp_path / "third.pub")
    assert isinstance(raised, InvalidModel)
    assert "which is not the one in" in raised.message
    assert isinstance(error("bundle", model, "--key", "missing.key"), InvalidSettings)
    assert run("inspect", model, "--key", tmp_path / "other.pub").exit_code == 2


def test_one_changed_byte_is_refused_by_the_files_name(model: Path) -> None:
    done("bundle", model)
    path = Path("same-2.bundle")
    good = path.read_bytes()
    at = good.index((model / "2" / "model.onnx").read_bytes()) + 5
    path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
    raised = error("inspect", path)
    assert isinstance(raised, InvalidModel)
    assert raised.message.startswith("same-2.bundle: models/same/2/model.onnx: its content")
