"""Recipes in processes of their own: what goes wrong there is told in a line, and nothing is left running."""

from __future__ import annotations

import errno
import multiprocessing
from pathlib import Path

import pytest
from tests.optimize import candidates

from forwardpass.optimize.making import MakingFailed, make
from forwardpass.optimize.recipe import Parent
from forwardpass.registry import find_model


@pytest.fixture
def parent(tmp_path: Path) -> Parent:
    return Parent(find_model(candidates.parent(tmp_path / "parent")))


def test_a_candidate_is_a_whole_folder(parent: Parent, folder: Path) -> None:
    make(candidates.Copy("copy"), parent, folder, 30)
    assert sorted(path.name for path in folder.iterdir()) == ["model.onnx", "model.yaml", "steps.py"]


def test_a_recipe_that_kills_its_process(parent: Parent, folder: Path) -> None:
    with pytest.raises(MakingFailed, match=r"^its process was killed by SIGABRT$"):
        make(candidates.Dying("dying"), parent, folder, 30)


@pytest.mark.slow
def test_a_recipe_that_raises_is_told_in_a_line(parent: Parent, folder: Path) -> None:
    with pytest.raises(MakingFailed, match=r"^the operator Frobnicate is not supported$"):
        make(candidates.Raising("raising"), parent, folder, 30)


def test_a_recipe_that_does_not_end_is_killed(parent: Parent, folder: Path) -> None:
    with pytest.raises(MakingFailed, match="it was not made within 1 s"):
        make(candidates.Endless("endless"), parent, folder, 1)
    assert not multiprocessing.active_children()


@pytest.mark.slow
def test_a_full_disk_is_not_the_candidates_fault(parent: Parent, folder: Path) -> None:
    with pytest.raises(OSError, match="No space left") as caught:
        make(candidates.Full("full"), parent, folder, 30)
    assert caught.value.errno == errno.ENOSPC
