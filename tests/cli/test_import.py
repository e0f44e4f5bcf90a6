"""``forwardpass import``: sources, what they may run, and what is printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from skops.io import dump
from typer.testing import CliRunner, Result

from forwardpass.cli.main import app
from forwardpass.errors import ForwardpassError, InvalidInput, InvalidModel, NotFound
from forwardpass.optimize.convert.sources import read_table


@pytest.fixture(scope="module")
def model() -> Any:
    return LogisticRegression(max_iter=1000).fit(*load_iris(return_X_y=True))


@pytest.fixture
def skops(model: Any, tmp_path: Path) -> Path:
    dump(model, tmp_path / "iris.skops")
    return tmp_path / "iris.skops"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["import", *map(str, arguments)])


def error(*arguments: object) -> ForwardpassError:
    raised = run(*arguments).exception
    assert isinstance(raised, ForwardpassError), repr(raised)
    assert "\n" not in raised.message
    return raised


def test_a_model_becomes_a_folder_that_predict_runs(skops: Path, tmp_path: Path) -> None:
    result = run(skops, tmp_path / "models", "--name", "iris")
    assert result.exit_code == 0, result.output
    assert "labels: 100.00% equal, 0 differ" in result.stdout
    assert "compared on 2000 rows, drawn from" in result.stdout
    folder = tmp_path / "models" / "iris"
    assert sorted(item.name for item in folder.iterdir()) == ["model.onnx", "model.yaml", "sample.json"]
    predicted = CliRunner().invoke(app, ["predict", str(folder), "--json"], catch_exceptions=False)
    assert set(json.loads(predicted.stdout)) == {"label", "probabilities"}


def test_json_holds_the_report(skops: Path, tmp_path: Path) -> None:
    data = tmp_path / "rows.npy"
    np.save(data, load_iris().data)
    result = run(skops, tmp_path / "iris", "--data", data, "--json")
    report = json.loads(result.stdout)
    assert (report["artifact"], report["comparison"]["rows"]) == ("model.onnx", 150)
    assert report["comparison"]["source"] == "the data given"


def test_a_csv_with_names(skops: Path, tmp_path: Path) -> None:
    data = tmp_path / "rows.csv"
    data.write_text("a,b,c,d\n5.1,3.5,1.4,0.2\n6.2,2.8,4.8,1.8\n")
    result = run(skops, tmp_path / "iris", "--data", data)
    assert "compared on 2 rows, the data given" in result.stdout, result.output


def test_a_pickle_is_loaded_only_where_that_is_allowed(model: Any, tmp_path: Path) -> None:
    joblib.dump(model, tmp_path / "iris.joblib")
    refused = error(tmp_path / "iris.joblib", tmp_path / "iris")
    assert isinstance(refused, InvalidModel)
    assert "is a pickle" in refused.message
    assert "--allow-code" in refused.message
    assert not (tmp_path / "iris").exists()
    assert run(tmp_path / "iris.joblib", tmp_path / "iris", "--allow-code").exit_code == 0


def test_a_skops_file_is_trusted_as_the_backend_trusts_it(tmp_path: Path) -> None:
    rows, labels = load_iris(return_X_y=True)
    dump(HistGradientBoostingClassifier(max_iter=2).fit(rows, labels), tmp_path / "histograms.skops")
    assert run(tmp_path / "histograms.skops", tmp_path / "histograms").exit_code == 0
    odd = LogisticRegression(max_iter=1000).fit(rows, labels)
    odd.note = NotFound
    dump(odd, tmp_path / "odd.skops")
    refused = error(tmp_path / "odd.skops", tmp_path / "odd").message
    assert "holds types that are not trusted (forwardpass.errors.NotFound)" in refused
    assert run(tmp_path / "odd.skops", tmp_path / "odd", "--allow-code").exit_code == 0


def test_a_python_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trained_iris.py").write_text(
        "from sklearn.datasets import load_iris\n"
        "from sklearn.tree import DecisionTreeClassifier\n"
        "def model():\n"
        "    return DecisionTreeClassifier(max_depth=3).fit(*load_iris(return_X_y=True))\n"
    )
    monkeypatch.chdir(tmp_path)
    assert "--allow-code" in error("trained_iris:model", tmp_path / "iris").message
    assert "has no attribute 'mode'" in error("trained_iris:mode", tmp_path / "iris", "--allow-code").message
    assert run("trained_iris:model", tmp_path / "iris", "--allow-code").exit_code == 0
    assert (tmp_path / "iris" / "model.onnx").is_file()


@pytest.mark.parametrize(
    ("name", "content", "kind", "says"),
    [
        ("missing.skops", None, NotFound, "no such file"),
        ("model.h5", b"x", InvalidModel, "no trained model that can be imported"),
        ("model.skops", b"x", InvalidModel, "cannot be loaded"),
        ("model.xgboost.json", b"{}", InvalidModel, "cannot be loaded"),
        ("model.txt", b"tree\n", InvalidModel, "cannot be loaded"),
    ],
)
def test_what_is_no_source(name: str, content: bytes | None, kind: type, says: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    raised = error(tmp_path / name, tmp_path / "out")
    assert isinstance(raised, kind)
    assert says in raised.message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", b"a,b\n1\n", "cannot be read as .csv"),
        ("a.npz", b"x", "cannot be read as .npz"),
        ("a.txt", b"x", "give data as"),
    ],
)
def test_data_that_cannot_be_read(name: str, content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidInput, match=says):
        read_table(tmp_path / name)
    with pytest.raises(NotFound, match="No such file"):
        read_table(tmp_path / "missing.csv")
