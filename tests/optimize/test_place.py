"""Where the winner goes."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests import artifacts

from forwardpass.errors import InvalidInput, InvalidModel
from forwardpass.optimize.place import find_place


def test_a_version_is_followed_by_the_next_number(tmp_path: Path) -> None:
    for version in ("1", "9", "10"):
        artifacts.identity(tmp_path / "digits" / version / "model.onnx")
    place = find_place(tmp_path / "digits", None)
    assert place.path == tmp_path / "digits" / "10"
    assert place.out == tmp_path / "digits" / "11"
    assert place.work == tmp_path / "digits" / "11.optimize"
    older = find_place(tmp_path / "digits" / "9", None)
    assert older.files.version == "9"
    assert older.out == tmp_path / "digits" / "11", "the next one that is free"


def test_a_folder_or_an_artifact_gets_a_folder_beside_it(tmp_path: Path) -> None:
    artifacts.identity(tmp_path / "digits" / "model.onnx")
    artifacts.identity(tmp_path / "other.onnx")
    assert find_place(tmp_path / "digits", None).out == tmp_path / "digits-optimized"
    assert find_place(tmp_path / "digits" / "model.onnx", None).out == tmp_path / "digits-optimized"
    assert find_place(tmp_path / "other.onnx", None).out == tmp_path / "other-optimized"
    assert find_place(tmp_path / "digits", tmp_path / "x" / "y").out == tmp_path / "x" / "y"


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    artifacts.identity(tmp_path / "digits" / "model.onnx")
    with pytest.raises(InvalidInput, match="there is something already; choose another folder with --out"):
        find_place(tmp_path / "digits", tmp_path / "digits")


def test_several_models_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        artifacts.identity(tmp_path / name / "model.onnx")
    with pytest.raises(InvalidModel, match=r"holds several models \(a, b\)"):
        find_place(tmp_path, None)


def test_a_winner_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    artifacts.identity(tmp_path / "digits" / "model.onnx")
    artifacts.identity(tmp_path / "candidate" / "model.onnx")
    place = find_place(tmp_path / "digits", None)
    (tmp_path / ".digits-optimized.half").mkdir()  # of a run that was killed while it copied
    (tmp_path / ".digits-optimized.half" / "torn").touch()
    place.publish(tmp_path / "candidate")
    assert [file.name for file in place.out.iterdir()] == ["model.onnx"]
    assert not (tmp_path / ".digits-optimized.half").exists()
