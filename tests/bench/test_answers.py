"""Answers of every kind are read, and wrong ones are refused."""

from __future__ import annotations

import json
import struct

import pytest
from bench.answers import WrongAnswer, compare, values


@pytest.mark.parametrize(
    "answer",
    [
        {"outputs": [{"name": "y", "shape": [1, 2], "data": [1.0, 2.0]}]},
        {"outputs": [{"name": "y", "shape": [1, 2], "data": [[1.0, 2.0]]}]},
        {"predictions": [[1.0, 2.0]]},
        {"predictions": [{"y": [1.0, 2.0]}]},
    ],
)
def test_json_answers(answer: dict[str, object]) -> None:
    assert values(json.dumps(answer).encode()) == [1.0, 2.0]


def test_binary_answer() -> None:
    header = b'{"outputs":[]}'
    assert values(header + struct.pack("<2f", 1.0, 2.0), len(header)) == [1.0, 2.0]


@pytest.mark.parametrize("answer", [{"error": "no"}, {"predictions": []}, {"outputs": []}, []])
def test_other_answers_are_refused(answer: object) -> None:
    with pytest.raises(WrongAnswer, match="not a V1 or V2 answer"):
        values(json.dumps(answer).encode())


def test_compare_allows_other_kernels_but_not_other_answers() -> None:
    compare([1.0, 100.5], [1.0, 100.0])
    with pytest.raises(WrongAnswer, match="differs"):
        compare([1.0, 103.0], [1.0, 100.0])
    with pytest.raises(WrongAnswer, match="differs"):
        compare([float("nan"), 100.0], [1.0, 100.0])
    with pytest.raises(WrongAnswer, match="1 values, expected 2"):
        compare([1.0], [1.0, 100.0])
