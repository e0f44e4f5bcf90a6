"""Which version answers, and what is said where none can."""

from __future__ import annotations

from pathlib import Path

import pytest

from forwardpass.errors import NotFound, NotReady
from forwardpass.registry import ModelLocation
from forwardpass.server.dataplane import DataPlane
from forwardpass.server.records import Recorder
from forwardpass.server.served import ServedModel, State
from forwardpass.types import DType, InputSpec, InputType, Signature, TensorSpec


def dataplane(**versions: dict[str, State]) -> DataPlane:
    plane = DataPlane(Recorder(()))
    for name, states in versions.items():
        for version, state in states.items():
            served = ServedModel(ModelLocation(name, version, Path(name)))
            served.state, served.reason = state, "cut short" if state is State.UNAVAILABLE else state.lower()
            plane.models.setdefault(name, {})[version] = served
    return plane


def test_the_newest_ready_version_answers_where_none_is_named() -> None:
    plane = dataplane(digits={"2": State.READY, "10": State.READY, "11": State.LOADING})
    assert plane.model("digits").version == "10"
    assert plane.model("digits", "2").version == "2"
    assert plane.model("digits", "11").version == "11"


def test_the_newest_stands_for_a_model_that_is_not_ready() -> None:
    assert dataplane(digits={"2": State.LOADING, "10": State.UNAVAILABLE}).model("digits").version == "10"


def test_unknown_names_and_versions_say_what_is_near() -> None:
    plane = dataplane(digits={"1": State.READY}, fraud={"1": State.READY})
    with pytest.raises(NotFound, match=r"no model 'digit'\. Did you mean 'digits'\?"):
        plane.model("digit")
    with pytest.raises(NotFound, match=r"'digits' has no version '3'\. Known: 1\."):
        plane.model("digits", "3")


def test_readiness_names_what_is_missing() -> None:
    plane = dataplane(digits={"1": State.READY}, fraud={"1": State.UNAVAILABLE}, slow={"1": State.LOADING})
    with pytest.raises(NotReady, match=r"^not ready: fraud \(cut short\); slow \(loading\)$"):
        plane.require_ready()
    plane = dataplane(digits={"1": State.READY})
    plane.require_ready()
    plane.draining = True
    with pytest.raises(NotReady, match="stopping"):
        plane.require_ready()


def test_versions_are_listed_by_number() -> None:
    plane = dataplane(b={"10": State.READY, "9": State.READY}, a={"1": State.READY})
    assert [(served.name, served.version) for served in plane.all()] == [("a", "1"), ("b", "9"), ("b", "10")]


def test_the_only_input_of_a_type() -> None:
    served = ServedModel(ModelLocation("m", "1", Path("m")))
    text = InputSpec(TensorSpec("text", DType.BYTES, (None,)), InputType.TEXT)
    image = InputSpec(TensorSpec("image", DType.BYTES, (None,)), InputType.IMAGE)
    served.signature = Signature((text, image), (), True)
    assert served.only_input(InputType.TEXT) == "text"
    assert served.only_input(InputType.TEXT, InputType.IMAGE) is None
    assert served.only_input(InputType.NUMBER) is None
