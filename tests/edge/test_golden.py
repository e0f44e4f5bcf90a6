"""Golden rows: what counts as the same answer, and what is said where it is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from forwardpass.edge.golden import Golden, check, decode_golden, differences, encode_golden, plain, read_golden
from forwardpass.errors import BackendFailed, InvalidModel

ANSWERS: list[Any] = [
    {"label": "cat", "scores": [0.25, 0.75], "count": 3},
    {"label": "dog", "scores": [1, 0], "count": 0},
]
GOLDEN = Golden("m", [[1.5], [2.5]], ANSWERS)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_bytes(encode_golden(GOLDEN))
    assert read_golden(tmp_path / "m.json") == GOLDEN
    body = msgspec.json.decode(encode_golden(GOLDEN))
    assert (body["instances"], body["predictions"]) == (GOLDEN.instances, ANSWERS)  # bodies of V1


def test_values_as_json_says_them() -> None:
    written = encode_golden(Golden("m", [{"image": b"\x00"}], [{"nan": float("nan"), "third": 1 / 3, "texts": ("a",)}]))
    golden = decode_golden(written, "m.json")
    assert golden.instances == [{"image": {"b64": "AA=="}}]
    assert golden.answers == [{"nan": None, "third": 0.333333, "texts": ["a"]}]
    assert differences(golden, [{"nan": float("nan"), "third": 1 / 3, "texts": ("a",)}]) == []
    assert plain([float("inf"), True, 1]) == [None, True, 1]


def test_what_another_processor_rounds_is_the_same() -> None:
    near = [
        {"label": "cat", "scores": [0.25002, 0.7505], "count": 3},
        {"label": "dog", "scores": [1.0005, 5e-5], "count": 0},
    ]
    assert differences(GOLDEN, near) == []


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"label": "cow"}, "row 0, label: 'cow' instead of 'cat'"),
        ({"scores": [0.25, 0.74]}, "row 0, scores[1]: 0.74 instead of 0.75"),
        ({"scores": [0.25]}, "row 0, scores: [0.25] instead of [0.25, 0.75]"),
        ({"count": 4}, "row 0, count: 4 instead of 3"),
        ({"count": True}, "row 0, count: True instead of 3"),
        ({"scores": [0.25, None]}, "row 0, scores[1]: None instead of 0.75"),
    ],
)
def test_what_differs_is_named(changed: dict[str, Any], says: str) -> None:
    assert differences(GOLDEN, [{**ANSWERS[0], **changed}, ANSWERS[1]]) == [says]


def test_outputs_that_are_missing_and_rows_that_are() -> None:
    (text,) = differences(GOLDEN, [{"label": "cat"}, ANSWERS[1]])
    assert text.startswith("row 0: {'label': 'cat'} instead of")
    assert differences(GOLDEN, ANSWERS[:1]) == ["1 answers for 2 golden rows"]


def test_each_row_is_asked_about_by_itself() -> None:
    asked: list[Any] = []

    def predict(rows: list[Any]) -> list[Any]:
        asked.append(rows)
        if rows == [[2.5]]:
            raise BackendFailed("out of luck")
        return [ANSWERS[0]]

    assert check(GOLDEN, predict) == ["row 1: failed: out of luck"]
    assert asked == [[[1.5]], [[2.5]]]
    assert check(GOLDEN, lambda rows: []) == ["row 0: 0 answers", "row 1: 0 answers"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"model":"m","instances":[1],"predictions":[]}',
        b'{"model":1,"instances":[],"predictions":[]}',
    ],
)
def test_what_are_no_golden_rows(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match=r"m\.json: "):
        decode_golden(data, "m.json")
    with pytest.raises(InvalidModel, match="cannot be read: No such file"):
        read_golden(tmp_path / "m.json")
