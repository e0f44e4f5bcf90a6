"""Drawings as people make them on the web page's canvas: synthetic, from strokes written down here.

A *form* is one way to write a sign: strokes parted by ``|``, each a row of points. A point is two
figures, across and down, on a grid ten high; a pen goes through the points in a curve, but for
corners, marked ``!``. `drawing` bends a form at random and draws it with a round pen. Forms to
train on and forms held out differ; no hand wrote either. Knows no model.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Points = NDArray[np.float64]
Random = np.random.Generator

DIGITS = {
    "0": [
        "30 11 04 18 39 58 64 51 30",
        "20 02 07 29 47 42 20",
        "41 20 03 06 29 57 64 42 20 10",
        "30 11 04 18 39 58 64 51 30 | 61 08",
    ],
    "1": ["30 39", "30 39", "13! 30! 39", "21! 30! 39", "14 23 30! 39", "13! 30! 39 | 09 69", "30 39 | 19 59"],
    "2": [
        "12 20 50 62 36 09! 69",
        "11 30 62 54 09! 69",
        "02 30 52 36 18 09 07 28 69",
        "11! 40 51! 09! 69",
        "12 30 53 09! 38 59 68",
    ],
    "3": [
        "01 30 52 34! 56 58 39 08",
        "00! 50! 24! 56 58 39 08",
        "11 30 52 24! 44 67 39 08",
        "01 30 52 45 24 34 56 58 39 08",
    ],
    "4": ["10! 05! 65 | 43 49", "20! 05! 65 | 40 49", "49! 40! 06! 66", "00 04 25 65 | 60 69", "00! 05! 55 | 50 59"],
    "5": [
        "60! 10! 04! 34 66 58 39 08",
        "10! 04! 24 53 66 58 29 08 | 10 60",
        "60 20 13 44 66 48 19 08",
        "50! 10! 14 44 57 39 08",
    ],
    "6": [
        "50 21 04 07 29 57 55 34 06",
        "40 05 08 29 58 56 35 16 07",
        "62 50 20 04 08 39 67 65 34 06",
        "30 04 08 29 48 46 25 06",
    ],
    "7": [
        "00! 60! 29",
        "00! 60! 29 | 15 55",
        "02! 00! 60! 29",
        "00! 60! 44 39",
        "00! 60! 44 29 | 24 64",
        "00! 50! 49",
    ],
    "8": [
        "51 30 11 13 34 56 58 39 18 16 34 53 51",
        "30 11 13 34 53 51 30 | 34 16 18 39 58 56 34",
        "62 40 12 34 56 38 19 07 34 62",
        "30 12 34 67 39 07 34 52 30",
    ],
    "9": [
        "52 30 11 03 25 44 52! 59",
        "51 30 02 14 34 51! 56 48 19",
        "51 20 03 25 53 51! 59",
        "51 20 02 25 52 51! 39",
        "30 02 24 53 41 30 | 51 55 39",
    ],
}

# Never trained on: other ways to write each digit.
HELD_OUT_DIGITS = {
    "0": ["50 21 04 18 39 68 64 51 30", "20 02 07 29 47 42 20 | 51 08", "40 11 04 17 48 77 84 71 40"],
    "1": ["30 36 29", "04! 30! 39", "30 38 49", "22! 30! 39 | 29 49"],
    "2": ["03 11 40 63 45 09! 69", "12 41 53 27 19 08 27 49 68", "11! 50 63! 19! 79"],
    "3": ["02 20 51 43 24! 54 67 49 18 07", "00! 60! 34! 65 58 29 08", "10 40 42 24 55 58 29 18"],
    "4": ["30! 06! 66 | 50 59", "59! 50! 05! 75", "00 03 15 45 | 50 59"],
    "5": ["60! 20! 14! 43 65 67 49 18 07", "11! 04! 33 55 57 39 08 | 21 60", "70! 30 23 55 67 39 18"],
    "6": ["30 03 07 29 57 55 34 15 06", "60 13 06 18 49 67 55 25 07", "51 30 03 06 19 49 57 45 15 07"],
    "7": ["01 10 31 60! 35 29", "00! 50! 19 | 04 64", "01! 70! 46 49 | 25 75"],
    "8": [
        "40 21 23 55 68 39 17 35 52 40",
        "30 21 23 34 43 41 30 | 34 06 08 39 68 66 34",
        "52 30 12 24 54 67 49 18 16 34 52",
    ],
    "9": ["62 40 12 24 44 61! 58", "50 20 03 34 53 50 56 39 18 07", "30 11 13 25 44 52 51 30 | 60 59"],
}

# Letters and signs that do not look like digits.
OTHERS = {
    "A": ["09! 40! 89 | 16 66", "09 31 40 61 79 | 05 75"],
    "C": ["61 30 04 39 68", "51 20 05 29 58"],
    "E": ["60! 00! 09! 69 | 04 54", "50 20 13 34 06 29 68"],
    "F": ["60! 00! 09 | 04 44"],
    "H": ["00 09 | 60 69 | 05 65"],
    "J": ["20! 60! 67 39 07"],
    "L": ["00! 09! 59", "00! 08 29 69"],
    "N": ["09! 00! 69! 60"],
    "R": ["09! 00! 41 53 04! 59", "00 09 | 00 50 52 14! 69"],
    "T": ["00 80 | 40 49"],
    "U": ["00 06 39 66 60", "00 07 29 58 50! 59"],
    "V": ["00! 39! 60"],
    "X": ["00 69 | 60 09"],
    "a": ["54 33 06 29 56! 53! 57 69"],
    "d": ["54 24 07 29 57 | 60 69"],
    "e": ["06 56 53 23 06 29 58"],
    "h": ["00 09! 06 34 56 59"],
    "m": ["03! 09! 05 23 45! 49! 45 73 85 89"],
    "n": ["03! 09! 05 33 55 59"],
    "r": ["03! 09! 05 23 43"],
    "t": ["20 28 39 58 | 03 53"],
    "v": ["03 29! 53"],
    "+": ["40 48 | 04 84"],
    "=": ["03 83 | 06 86"],
    "-": ["04 94"],
    "star": ["09! 40! 89! 03! 83! 09"],
    "arrow": ["05 95 | 62! 95! 68"],
    "tick": ["05! 29! 90"],
    "wave": ["05 23 35 57 75 93"],
    "zigzag": ["03! 28! 32! 57! 62! 87! 93", "06! 32! 46! 73! 87"],
    "triangle": ["40! 08! 88! 40"],
    "infinity": ["43 21 03 25 43 61 83 65 43"],
    "two strokes": ["20 29 | 60 69"],
    "fence": ["20 29 | 60 69 | 03 83 | 06 86"],
    "moon": ["40 11 04 18 49 36 33 40"],
    "cross in a ring": ["40 11 04 18 49 78 84 71 40 | 40 49 | 05 85"],
    "ring in a ring": ["40 11 04 18 49 78 84 71 40 | 43 34 45 54 43"],
}

HELD_OUT_OTHERS = {
    "K": ["00 09 | 60! 05! 69"],
    "M": ["09! 00! 45! 80! 89"],
    "P": ["09! 00! 40 52 44 05"],
    "W": ["00! 29! 43! 69! 80"],
    "Y": ["00! 44! 80 | 44 49"],
    "f": ["60 30 22 29 | 04 54"],
    "k": ["00 09 | 53! 06! 59"],
    "p": ["03! 09 | 05 33 55 47 06"],
    "w": ["03! 29! 45! 69! 83"],
    "heart": ["43! 20 02 49! 82 60 43"],
    "house": ["04! 40! 84! 89! 09! 04! 84"],
    "spiral": ["44 54 46 25 32 62 76 49 17 02 40"],
    "face": ["40 11 04 18 49 78 84 71 40 | 33 33 | 53 53 | 26 47 66"],
}


def drawing(form: str, random: Random) -> NDArray[np.uint8]:
    """A gray picture, black on white, about 300 pixels a side, of one form drawn with a round pen."""
    unsteady = random.uniform(0.1, 0.4)
    strokes = _placed(_bent([_trace(stroke, unsteady, random) for stroke in form.split("|")], random), random)
    side = int(random.integers(220, 340))
    pen = side * float(np.exp(random.uniform(np.log(0.03), np.log(0.1))))
    sheet = Image.new("L", (side, side), 255)
    for stroke in strokes:
        _ink_stroke(ImageDraw.Draw(sheet), stroke * side, pen)
    return np.asarray(sheet)


def _trace(stroke: str, unsteady: float, random: Random) -> Points:
    """The pen's path: a curve through the points, each a little off, with the unsteadiness of a mouse."""
    tokens = stroke.split()
    points = np.array([[int(token[0]), int(token[1])] for token in tokens], dtype=float)
    points += random.normal(0, 0.2, 2) + random.normal(0, unsteady, points.shape)
    corners = [0, *(at for at, token in enumerate(tokens) if token.endswith("!") and at > 0), len(tokens) - 1]
    parts = [_curve(points[start : end + 1]) for start, end in pairwise(corners) if start < end]
    path = np.concatenate(parts)
    shake = random.normal(0, 1, path.shape)
    smooth = np.stack([np.convolve(column, np.ones(9) / 3, "same") for column in shake.T], axis=1)
    shaken: Points = path + random.uniform(0, 0.12) * smooth
    return shaken


def _curve(points: Points) -> Points:
    """A Catmull-Rom curve through points [n, 2], with about a dozen steps between two of them."""
    before, after = 2 * points[0] - points[1], 2 * points[-1] - points[-2]
    ends = np.concatenate([before[None], points, after[None]])
    a, b, c, d = (ends[at : len(points) - 1 + at, None] for at in range(4))
    t = np.linspace(0, 1, 13)[:, None]
    steps = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    curve: Points = steps.reshape(-1, 2)
    return curve


def _bent(strokes: list[Points], random: Random) -> list[Points]:
    """Slanted, turned, made wider or narrower, and bent as a whole."""
    turn, slant, wider = random.normal(0, 0.08), random.normal(0.06, 0.14), np.exp(random.normal(0, 0.18))
    matrix = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) @ [[1, 0], [-slant, 1]]
    bent = [(stroke - [3, 4.5]) * [wider, 1] @ matrix for stroke in strokes]
    waves, phases = random.normal(0, 0.2, (2, 2, 2)), random.uniform(0, 2 * np.pi, (2, 2, 2))
    return [stroke + (waves * np.sin(0.5 * stroke[:, None, :, None] + phases)).sum(axis=(1, 2)) for stroke in bent]


def _placed(strokes: list[Points], random: Random) -> list[Points]:
    """Strokes somewhere on a sheet one wide and one high, 0.35 to 0.8 of it along the longer side."""
    points = np.concatenate(strokes)
    low, extent = points.min(axis=0), np.ptp(points, axis=0)
    scale = random.uniform(0.35, 0.8) / extent.max()
    corner = 0.08 + random.beta(3, 3, 2) * (0.84 - extent * scale)
    return [(stroke - low) * scale + corner for stroke in strokes]


def _ink_stroke(sheet: Any, path: Points, pen: float) -> None:
    dots = [tuple(point) for point in path.tolist()]
    sheet.line(dots, fill=0, width=round(pen), joint="curve")
    for x, y in (dots[0], dots[-1]):
        sheet.ellipse((x - pen / 2, y - pen / 2, x + pen / 2, y + pen / 2), fill=0)
