"""What is said of the programs and extras that are there, on devices and elsewhere."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from forwardpass.edge import distribution, kinds
from forwardpass.edge.distribution import Distribution
from forwardpass.errors import InvalidSettings

PACKAGING = Path(__file__).parents[2] / "packaging" / "edge"


def test_the_program_is_named_as_it_is_installed(tmp_path: Path) -> None:
    assert Distribution(tmp_path).program == "forwardpass agent"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "forwardpass-agent").touch()
    assert Distribution(tmp_path).program == "forwardpass-agent"


def test_every_extra_of_a_device_is_known_with_its_libraries() -> None:
    project = tomllib.loads((PACKAGING / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].items()
    assert {name: " ".join(text.split(">")[0] for text in texts) for name, texts in extras} == distribution._LIBRARIES


def test_an_input_without_its_library_says_what_brings_it() -> None:
    wanted = {"video": ("no_such_module", "Video", "video")}
    with pytest.raises(InvalidSettings, match=r"video needs 'no_such_module', which is not installed: pip install av$"):
        kinds.load(wanted, "inputs[0]", {"type": "video"})
