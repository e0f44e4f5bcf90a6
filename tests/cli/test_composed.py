"""What ``inspect``, ``models`` and ``predict`` say of models without an artifact."""

from __future__ import annotations

from pathlib import Path

import pytest

from forwardpass import load
from forwardpass.cli.facts import facts_of
from forwardpass.cli.models import _on_disk
from forwardpass.cli.portrait import portrait
from forwardpass.errors import InvalidModel
from forwardpass.registry import find_model, locate_models

PAIR = """
description: Two
cascade: [small, large]
escalation: {confidence: p, threshold: 0.8, max_share: 0.2, price: 0.001, max_cost_per_day: 5, audit: 0.01}
tags: {team: a}
"""
FAR = "remote: {urls: ['http://a:1', 'https://b'], model: digits, version: '3'}"


def model(folder: Path, text: str, name: str = "pair") -> Path:
    (folder / name).mkdir()
    (folder / name / "model.yaml").write_text(text, encoding="utf-8")
    return folder / name


def shown(path: Path) -> str:
    (location,) = locate_models(path)
    return portrait(facts_of(location))


def test_a_cascade_is_shown_with_its_members_and_limits(tmp_path: Path) -> None:
    text = shown(model(tmp_path, PAIR))
    for line in (
        "Two",
        "cascade   small → large",
        "unsure    below 0.8 of p, and then",
        "          asks the next for 1 s, at most 20% of rows, price 0.001, at most 5 a day",
        "audit     1.0% of the sure rows",
        "tags      team=a",
    ):
        assert f"\n  {line}\n" in text + "\n"


def test_a_remote_is_shown_with_its_servers(tmp_path: Path) -> None:
    text = shown(model(tmp_path, FAR))
    assert "\n  remote    digits version 3 at http://a:1, https://b\n" in text
    assert "8 batches at a time each, 10 s for an answer, tried again 1 times" in text


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("cascade: [small, large]", "`escalation` is missing"),
        ("remote: {urls: [a]}", "remote: 'a' is no URL"),
        ("remote: {urls: [http://a]}\nartifact: x.onnx", "`artifact` means nothing for a remote model"),
    ],
)
def test_what_is_wrong_with_one_is_said(tmp_path: Path, text: str, match: str) -> None:
    (location,) = locate_models(model(tmp_path, text))
    assert match in facts_of(location)["problem"]["message"]


def test_models_lists_them(tmp_path: Path) -> None:
    for name, text in {"pair": PAIR, "far": FAR, "two": PAIR.replace("description: Two", "")}.items():
        model(tmp_path, text, name)
    found = {item["name"]: (item["state"], item["description"]) for item in _on_disk(tmp_path)}
    assert found == {
        "pair": ("found", "Two"),
        "far": ("found", "remote: http://a:1, https://b"),
        "two": ("found", "cascade: small → large"),
    }


def test_they_cannot_be_run_without_a_server_and_say_so(tmp_path: Path) -> None:
    path = model(tmp_path, PAIR)
    with pytest.raises(InvalidModel, match=r"'pair' has no artifact of its own.*forwardpass serve"):
        load(path)
    with pytest.raises(InvalidModel, match="so no backend runs it"):
        find_model(path).backend()


def test_versions_of_one_may_be_with_and_without_artifact(tmp_path: Path) -> None:
    (tmp_path / "pair" / "1").mkdir(parents=True)
    (tmp_path / "pair" / "1" / "model.onnx").touch()
    (tmp_path / "pair" / "2").mkdir()
    (tmp_path / "pair" / "2" / "model.yaml").write_text(PAIR, encoding="utf-8")
    assert [location.version for location in locate_models(tmp_path)] == ["1", "2"]
    files = find_model(tmp_path / "pair")
    assert (files.version, files.config.composed) == ("2", True)
    assert files.artifact == tmp_path / "pair" / "2" / "model.yaml"
