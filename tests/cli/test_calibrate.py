"""``forwardpass calibrate`` as its user sees it: what it prints and writes, and what it refuses."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import typer
from tests.optimize.cascade import pairs
from tests.server.process import running
from typer.testing import CliRunner

import forwardpass
from forwardpass.cli.calibrate import _aim
from forwardpass.cli.main import app
from forwardpass.config import read_model_config
from forwardpass.errors import InvalidInput
from forwardpass.optimize.cascade.results import Aim
from forwardpass.pipeline.confidence import confidence


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    data = pairs.held_out(tmp_path / "rows.parquet", 600)
    small, large = pairs.small(tmp_path / "small"), pairs.large(tmp_path / "large")
    return ["calibrate", str(small), "--data", str(data), "--against", str(large), "--threads", "1"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more rows are timed than must be."""
    monkeypatch.setattr("forwardpass.optimize.cascade.running.MOST", 30)


def test_the_table_the_verdict_and_the_folders(arguments: list[str], tmp_path: Path) -> None:
    done = CliRunner().invoke(app, [*arguments, "--max-escalation", "25%", "--output", str(tmp_path / "both")])
    assert done.exit_code == 0, done.output
    assert done.stderr == "The answer is output 'label'; the confidence is output 'probabilities'.\n"
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["small", "large", "cascade"]
    assert lines[1].startswith("accuracy")
    assert any(line.startswith("Below a confidence of 0.") for line in lines)
    assert lines[-1] == f"Cascade: {tmp_path}/both; serve it in one folder with small and large"
    config = read_model_config(tmp_path / "both")
    assert config.cascade == ("small", "large")
    assert config.escalation is not None
    assert config.escalation.max_share == 0.25
    names = sorted(path.name for path in (tmp_path / "both.calibrate").iterdir())
    assert names == ["report.html", "report.json", "report.md", "report.svg"]


def test_figures_for_programs(arguments: list[str], tmp_path: Path) -> None:
    done = CliRunner().invoke(app, [*arguments, "--target-accuracy", "large-3%", "--price", "0.5", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["aim"] == {"accuracy": None, "below": 0.03, "escalated": None}
    assert found["cost"]["value"] == pytest.approx(500 * found["measured"]["share"]["value"])
    assert (tmp_path / "small.calibrate" / "report.html").is_file()
    assert not (tmp_path / "both").exists()


@pytest.mark.slow
def test_what_it_writes_is_served_and_asks_about_the_very_rows_that_were_counted(
    arguments: list[str], tmp_path: Path
) -> None:
    done = CliRunner().invoke(app, [*arguments, "--target-accuracy", "95%", "--output", str(tmp_path / "both")])
    assert done.exit_code == 0, done.output
    rule = read_model_config(tmp_path / "both").escalation
    assert rule is not None
    x, _ = pairs.rows(100, seed=7)
    small, large = (forwardpass.load(tmp_path / name, threads=1).predict({"x": x}) for name in ("small", "large"))
    asked = confidence(small["probabilities"], rule.temperature) < rule.threshold
    assert 0 < asked.sum() < 100
    with running([tmp_path]) as server:
        body = json.dumps({"instances": x.tolist()}).encode()
        with urllib.request.urlopen(f"{server.url}/v1/models/both:predict", body, timeout=30) as answer:
            predictions = json.load(answer)["predictions"]
    assert [one["member"] for one in predictions] == np.where(asked, "large", "small").tolist()
    assert [one["label"] for one in predictions] == np.where(asked, large["label"], small["label"]).tolist()


def test_a_large_model_that_lies_elsewhere_is_asked_there(arguments: list[str], tmp_path: Path) -> None:
    here = CliRunner().invoke(app, [*arguments, "--max-escalation", "25%", "--json"])
    assert here.exit_code == 0, here.output
    (tmp_path / "far").mkdir()
    with running([tmp_path / "large"]) as server:
        remote = f"remote: {{urls: ['{server.url}'], model: large}}\n"
        (tmp_path / "far" / "model.yaml").write_text(remote, encoding="utf-8")
        arguments[arguments.index("--against") + 1] = str(tmp_path / "far")
        far = CliRunner().invoke(app, [*arguments, "--max-escalation", "25%", "--json"])
    assert far.exit_code == 0, far.output
    one, other = json.loads(here.stdout), json.loads(far.stdout)
    assert (one["elsewhere"], other["elsewhere"], other["large"]) == (False, True, "far")
    assert (one["threshold"], one["temperature"]) == (other["threshold"], other["temperature"])
    for figure in ("large_accuracy", "accuracy", "share", "disagreement"):
        assert one["measured"][figure] == other["measured"][figure]
    text = (tmp_path / "small.calibrate" / "report.md").read_text(encoding="utf-8")
    assert "far lies elsewhere, and the road there and back is in it" in text


def test_what_is_wrong_is_told(arguments: list[str]) -> None:
    failed = CliRunner().invoke(app, [*arguments, "--max-escalation", "25%", "--label", "lable"])
    assert isinstance(failed.exception, InvalidInput)
    assert "there is no column 'lable'. Did you mean 'label'?" in failed.exception.message


def test_one_aim_and_only_one(arguments: list[str]) -> None:
    for more in ([], ["--max-escalation", "20%", "--target-accuracy", "0.9"]):
        failed = CliRunner().invoke(app, [*arguments, *more])
        assert failed.exit_code == 2
        assert "either an accuracy or a share of rows" in " ".join(failed.stderr.split())


@pytest.mark.parametrize(
    ("accuracy", "escalation", "aim"),
    [
        ("98%", None, Aim(accuracy=0.98)),
        ("0.98", None, Aim(accuracy=0.98)),
        ("large", None, Aim(below=0.0)),
        ("large-0.3%", None, Aim(below=0.003)),
        (None, "20%", Aim(escalated=0.2)),
        (None, "0", Aim(escalated=0.0)),
    ],
)
def test_how_aims_are_written(accuracy: str | None, escalation: str | None, aim: Aim) -> None:
    found = _aim(accuracy, escalation)
    for name, value in vars(aim).items():
        assert getattr(found, name) == (None if value is None else pytest.approx(value))


@pytest.mark.parametrize(("accuracy", "escalation"), [("much", None), ("large-few", None), (None, "a fifth")])
def test_what_is_no_share(accuracy: str | None, escalation: str | None) -> None:
    with pytest.raises(typer.BadParameter, match="is no share such as"):
        _aim(accuracy, escalation)
