"""The ``curl`` lines, as a shell splits them. That they work is tested with the server, in ``test_serve.py``."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

import pytest

from forwardpass.cli.curl import LONGEST, curl_line
from forwardpass.types import DType, InputSpec, ModelInfo, Sample, Signature, TensorSpec

BASE = "http://127.0.0.1:8000"


def signature(*shape: int | None) -> Signature:
    return Signature((InputSpec(TensorSpec("x", DType.FP32, (None, *shape))),), (), True)


def line_with(file: Path, content_type: str) -> list[str]:
    return shlex.split(curl_line(BASE, "m", ModelInfo(sample=Sample(str(file), content_type)), signature(2)))


def test_a_short_json_sample_stands_in_the_line(tmp_path: Path) -> None:
    file = tmp_path / "sample.json"
    file.write_text('{"instances":\n  [{"text": "it\'s \\"new\\" é"}]}')
    words = line_with(file, "application/json")
    assert words[:2] == ["curl", f"{BASE}/v1/models/m:predict"]
    assert words[2:5] == ["-H", "content-type: application/json", "-d"]
    assert json.loads(words[5]) == json.loads(file.read_text())


def test_a_long_json_sample_is_a_file(tmp_path: Path) -> None:
    file = tmp_path / "sample.json"
    file.write_text(json.dumps({"instances": ["x" * LONGEST]}))
    assert line_with(file, "application/json")[4:] == ["--data-binary", f"@{file}"]


def test_a_raw_sample_is_a_file_relative_to_where_we_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "it's odd" / "sample.png"
    assert line_with(file, "image/png")[2:] == [
        "-H",
        "content-type: image/png",
        "--data-binary",
        "@it's odd/sample.png",
    ]


def test_without_a_sample_a_request_is_made() -> None:
    words = shlex.split(curl_line(BASE, "m", ModelInfo(), signature(2, None)))
    assert json.loads(words[-1]) == {"instances": [[[0], [0]]]}


def test_a_large_request_is_written_by_a_short_program() -> None:
    line = curl_line(BASE, "m", ModelInfo(), signature(3, 40, 40))
    assert len(line) < 300
    program, curl = line.split(" | ")
    written = subprocess.run(program, shell=True, capture_output=True, text=True, check=True).stdout
    assert json.loads(written) == {"instances": [[[[0] * 40] * 40] * 3]}
    assert shlex.split(curl)[-2:] == ["--data-binary", "@-"]
