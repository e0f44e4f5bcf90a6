"""The header of an ONNX file, read without its library."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from tests import artifacts

from forwardpass.cli.artifact import OnnxHeader, read_onnx_header


def test_the_same_as_the_library_reads(tmp_path: Path) -> None:
    path = artifacts.affine(tmp_path / "model.onnx")
    model = onnx.load(path)
    model.producer_name, model.producer_version = "trainer", "1.2"
    model.opset_import.append(onnx.helper.make_opsetid("ai.onnx.ml", 3))
    path.write_bytes(model.SerializeToString())
    assert read_onnx_header(path) == OnnxHeader("trainer 1.2", 10, {"ai.onnx": 19, "ai.onnx.ml": 3})


@pytest.mark.parametrize("content", [b"", b"not an artifact", b"\x08", b"\x3a\xff\xff\xff\xff\x0f", b"\xff" * 20])
def test_no_header_in_other_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    assert read_onnx_header(tmp_path / "model.onnx") is None


def test_no_header_in_a_file_cut_short(tmp_path: Path) -> None:
    path = artifacts.affine(tmp_path / "model.onnx")
    path.write_bytes(path.read_bytes()[:1000])
    assert read_onnx_header(path) is None
