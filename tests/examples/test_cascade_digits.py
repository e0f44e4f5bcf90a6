"""The digits pair: what is held out was never trained on, noise is as stated, and the report keeps its promise."""

from __future__ import annotations

import re

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from examples.cascade import digits  # noqa: E402  # it imports torch
from examples.optimize.digits_source import Digits  # noqa: E402


def test_noise_is_as_much_as_stated_and_always_the_same() -> None:
    gray = np.full((400, 1, 28, 28), 0.5, np.float32)
    noisy = digits.noisy(gray, 1)
    assert noisy.dtype == np.float32
    assert noisy.min() >= 0
    assert noisy.max() <= 1
    spread = (noisy - gray).std(axis=(1, 2, 3))
    assert spread.max() < 1.1 * digits.NOISE
    assert spread.mean() == pytest.approx(digits.NOISE / 2, rel=0.1)
    np.testing.assert_array_equal(noisy, digits.noisy(gray, 1))
    assert not np.array_equal(noisy, digits.noisy(gray, 2))


def test_the_tiny_one_is_a_tenth_of_the_large_one() -> None:
    tiny, large = (sum(weights.numel() for weights in Digits(widths).parameters()) for widths in digits.WIDTHS.values())
    assert tiny < 5000 < 10 * tiny < large


def test_the_report_reaches_the_target_on_rows_that_did_not_choose() -> None:
    """At least the large model's accuracy less 0.3 points, at most 20 % of rows escalated."""
    text = digits.REPORT.read_text(encoding="utf-8")
    share = re.search(r"\| rows escalated \|.*\| ([\d.]+) % \[[\d.]+ to ([\d.]+)\] \|", text)
    lost = re.search(r"right, ([\u2212\d.]+) \[([\u2212\d.]+) to ([\u2212\d.]+)\] points fewer than digits-large", text)
    assert share is not None
    assert lost is not None
    assert float(share[2]) <= 20, "with the whole interval"
    assert float(lost[1].replace("\u2212", "-")) <= 0.3
