"""Writes scans of digits as PNG files, one digit a file: `python examples/jobs/digits/make_scans.py scans/`.

They are the 450 scans of scikit-learn's digits that the `digits` model never saw, drawn as the
pictures that its card was measured on. What the scan shows is its folder's name: `digit=7/0042.png`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))  # run as a file, only this folder is there
from examples.training import digits_pictures as pictures


def write_scans(folder: Path) -> int:
    """Write the files; how many they are."""
    ink, digits = pictures.scans()
    held_out = slice(pictures.TRAINED_SCANS, None)
    random = np.random.default_rng(pictures.EVALUATION_SEED)
    for number, (sign, digit) in enumerate(zip(ink[held_out], digits[held_out], strict=True)):
        file = folder / f"digit={digit}" / f"{number:04}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(pictures.png(pictures.draw(sign, random, bend=0)))
    return len(ink[held_out])


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the held-out scans of digits as PNG files.")
    parser.add_argument("folder", type=Path, help="where to write digit=0/ to digit=9/")
    arguments = parser.parse_args()
    print(f"{write_scans(arguments.folder)} scans in {arguments.folder}")


if __name__ == "__main__":
    main()
