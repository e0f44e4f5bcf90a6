"""Names of axes, read out of an ONNX file; which of them make a model batched is tested with the backends."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from tests import artifacts

from forwardpass.backends.axes import read_onnx_axes


def test_names_numbers_and_free_axes(folder: Path) -> None:
    path = artifacts.identity(folder / "m.onnx", shape=("N", None, 3), out=("batch size", 2, None))
    assert read_onnx_axes(path) == {"x": ("N", None, 3), "y": ("batch size", 2, None)}


def test_every_input_and_output_and_none_of_the_weights(folder: Path) -> None:
    path = artifacts.two_inputs(folder / "m.onnx", "N", "M")
    assert read_onnx_axes(path) == {"a": ("N", 3), "b": ("M", 3), "total": ("N", 3)}
    assert set(read_onnx_axes(artifacts.affine(folder / "w.onnx"))) == {"x", "y"}


@pytest.mark.parametrize("length", [0, -1])
def test_lengths_that_are_none_are_free(folder: Path, length: int) -> None:
    path = artifacts.save(
        folder / "m.onnx",
        [helper.make_node("Identity", ["x"], ["y"])],
        [artifacts.tensor("x", [length, 2])],
        [artifacts.tensor("y", None)],
    )
    assert read_onnx_axes(path) == {"x": (None, 2)}, "an output without a shape is not in it"


def test_a_scalar_has_no_axes(folder: Path) -> None:
    assert read_onnx_axes(artifacts.scalar_output(folder / "m.onnx"))["y"] == ()


@pytest.mark.parametrize("content", [b"", b"\x80pickle", b"<?xml version='1.0'?>", b"\x3a\xff\xff\xff\xff\xff"])
def test_other_files_are_refused(folder: Path, content: bytes) -> None:
    (folder / "m.onnx").write_bytes(content)
    with pytest.raises(ValueError, match=r"mmap|byte \d+: "):
        read_onnx_axes(folder / "m.onnx")


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return artifacts.two_inputs(tmp_path_factory.mktemp("a") / "m.onnx").read_bytes()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_file_ends_in_names_or_in_a_value_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, data: st.DataObject
) -> None:
    damaged = bytearray(content[: data.draw(st.integers(0, len(content)))])
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=4)):
        if at < len(damaged):
            damaged[at] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.onnx"
    path.write_bytes(damaged)
    with suppress(ValueError):
        assert isinstance(read_onnx_axes(path), dict)
