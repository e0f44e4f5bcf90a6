"""The digits cascade on rows that nobody has looked at: `python examples/cascade/digits_check.py`, after `digits.py`.

Draws held-out rows anew, with seeds of their own, and judges the cascade as it stands in build/cascade: nothing is
chosen here. Prints accuracy and share escalated of all rows, of drawings and of scans of handwriting.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run as a program: the repository's root

from examples.cascade import digits
from examples.cascade.digits import Array
from examples.optimize import digits as drawn
from examples.training import digits_pictures as pictures
from examples.training import digits_strokes as strokes

import forwardpass
from forwardpass.config import read_model_config
from forwardpass.pipeline.confidence import confidence

SEED, NOISE_SEED = 52, 53


def main() -> None:
    labelled = list(rows(np.random.default_rng(SEED)))
    images = digits.noisy(np.stack([image for image, _, _ in labelled])[:, None], NOISE_SEED)
    labels, scanned = (np.array([row[place] for row in labelled]) for place in (1, 2))
    right, escalated = judge(images, labels)
    for name, chosen in (("all rows", scanned >= 0), ("drawings", scanned == 0), ("scans", scanned == 1)):
        shares = ", ".join(f"{model} {100 * column[chosen].mean():.2f} %" for model, column in right.items())
        lost = right["large"][chosen].astype(float) - right["cascade"][chosen]
        half = 1.96 * lost.std() / np.sqrt(len(lost))
        print(f"{name} ({len(lost)}): {shares}; {100 * escalated[chosen].mean():.1f} % escalated; "
              f"{100 * lost.mean():.2f} ± {100 * half:.2f} points fewer than the large one")  # fmt: skip


def rows(random: np.random.Generator) -> Iterator[tuple[Array, int, int]]:
    """Pictures, digits, and whether it is a scan; as many of each kind as are held out."""
    for sign, ways in strokes.DIGITS.items():
        for number in range(drawn.HELD_OUT_DRAWINGS):
            yield drawn.to_ink(strokes.drawing(ways[number % len(ways)], random)), int(sign), 0
    signs, numbers = pictures.scans()
    for sign, digit in zip(signs[pictures.TRAINED_SCANS :], numbers[pictures.TRAINED_SCANS :], strict=True):
        for _ in range(digits.HELD_OUT_COPIES):
            yield drawn.to_ink(pictures.draw(sign, random)), int(digit), 1


def judge(images: Array, labels: Array) -> tuple[dict[str, Array], Array]:
    """Who is right on which row, and which rows are escalated."""
    rule = read_model_config(digits.CASCADE).escalation
    assert rule is not None
    small, large = (
        forwardpass.load(path, threads=1).predict({"image": images}) for path in (digits.TINY, digits.LARGE)
    )
    escalated = confidence(small[rule.confidence], rule.temperature) < rule.threshold
    cascade = np.where(escalated, large["digit"], small["digit"])
    answers = {"tiny": small["digit"], "large": large["digit"], "cascade": cascade}
    return {name: given == labels for name, given in answers.items()}, escalated


if __name__ == "__main__":
    main()
