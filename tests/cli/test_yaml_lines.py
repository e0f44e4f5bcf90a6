"""Lines of ``model.yaml``, from the messages that the loader really gives."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests import artifacts

from forwardpass.cli.yaml_lines import line_of
from forwardpass.engine.engine import load
from forwardpass.errors import InvalidModel

GOOD = """\
description: test
inputs:
  x: {type: number, shape: [2]}
  # a comment
  unused:
    type: number
    minimum: 0
preprocess:
  - step: clip
    input: x
    minimum: 0
  - {step: clip, input: x,
     maximum: 5}
outputs: [y]
limits:
  max_queue_size: 10
  timeout: 3
"""


def message_of(folder: Path, text: str) -> str:
    artifacts.identity(folder / "model.onnx")
    (folder / "model.yaml").write_text(text)
    with pytest.raises(InvalidModel) as caught:
        load(folder)
    return caught.value.message


@pytest.mark.parametrize(
    ("right", "wrong", "line"),
    [
        ("description:", "descripsion:", 1),
        ("    minimum: 0\npre", "    minimal: 0\npre", 7),
        ("    input: x", "    inputt: x", 10),
        ("    input: x", "    input: z", 9),
        ("     maximum: 5", "     maximum: many", 13),
        ("{step: clip,", "{step: clap,", 12),
        ("outputs: [y]", "outputs: [z]", 14),
        ("max_queue_size: 10", "max_queue_sise: 10", 16),
        ("timeout: 3", "timeout: soon", 17),
        ("timeout: 3", "timeout: [3", 18),
    ],
)
def test_the_line_is_that_of_the_wrong_key(folder: Path, right: str, wrong: str, line: int) -> None:
    assert right in GOOD
    text = GOOD.replace(right, wrong, 1)
    assert line_of(text, message_of(folder, text)) == line


def test_no_line_where_the_message_names_no_key() -> None:
    assert line_of(GOOD, "model.onnx: is not an ONNX file, or is cut short") is None


def test_the_nearest_line_above_where_the_key_itself_is_not_told() -> None:
    assert line_of(GOOD, "m/model.yaml: Invalid enum value 'x' - at `$.inputs[...].type`") == 2
