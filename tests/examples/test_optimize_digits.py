"""The digits case of `forwardpass optimize`: what is held out was never trained on, and the model has its shape."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

torch = pytest.importorskip("torch")

from examples.optimize import digits, digits_source  # noqa: E402  # they import torch
from examples.training import digits_pictures as pictures  # noqa: E402


def draws_from(monkeypatch: pytest.MonkeyPatch, rows: Any) -> tuple[set[bytes], digits.Array]:
    """The scans that are drawn for ``rows``, and the pictures."""
    seen: list[bytes] = []
    draw = pictures.draw

    def noted(sign: digits.Array, random: pictures.Random) -> digits.Array:
        seen.append(sign.tobytes())
        return draw(sign, random)

    monkeypatch.setattr(pictures, "draw", noted)
    image, _ = rows(drawings=2, copies=1)
    monkeypatch.undo()
    return set(seen), image


def test_no_held_out_scan_or_picture_is_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    trained, training = draws_from(monkeypatch, digits.training_rows)
    judged, held_out = draws_from(monkeypatch, digits.held_out_rows)
    assert (len(trained), len(judged)) == (1347, 450)
    assert trained.isdisjoint(judged)
    assert {image.tobytes() for image in training}.isdisjoint(image.tobytes() for image in held_out)


def test_there_are_enough_rows_for_half_a_point() -> None:
    scans = pictures.TRAINED_SCANS
    assert 10 * digits.TRAINING_DRAWINGS + scans * digits.TRAINING_COPIES >= 12_000
    assert 10 * digits.HELD_OUT_DRAWINGS + (1797 - scans) * digits.HELD_OUT_COPIES >= 4_000 + 256


@pytest.mark.parametrize("widths", [digits_source.WIDTHS, digits_source.STUDENT_WIDTHS])
def test_a_score_for_each_digit(widths: tuple[int, ...]) -> None:
    scores = digits_source.Digits(widths)(torch.zeros(3, 1, digits.SIDE, digits.SIDE))
    assert scores.shape == (3, 10)


def test_ink_is_alike_on_light_and_dark_paper() -> None:
    picture = np.full((40, 30), 250, np.uint8)
    picture[10:30, 12:18] = 20
    ink = digits.to_ink(picture)
    assert ink.shape == (28, 28)
    assert ink.dtype == np.float32
    assert (ink.min(), ink.max()) == (0, 1)
    np.testing.assert_allclose(digits.to_ink(255 - picture), ink, atol=1e-6)


def test_an_empty_picture_has_no_ink() -> None:
    assert not digits.to_ink(np.full((40, 30), 250, np.uint8)).any()


def test_pictures_go_into_a_table_and_back(tmp_path: Any) -> None:
    image = np.arange(2 * 28 * 28, dtype=np.float32).reshape(2, 1, 28, 28)
    pq.write_table(pa.table({"image": digits.nested(image)}), tmp_path / "rows.parquet")
    assert pq.read_table(tmp_path / "rows.parquet")["image"].to_pylist() == image.tolist()
