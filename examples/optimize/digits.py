"""A convolutional network on digits, made faster: `python examples/optimize/digits.py`, about fifteen minutes.

Half of the pictures or more are drawn from strokes written down in `digits_strokes.py` (synthetic), the others are
scikit-learn's scans of handwriting, drawn with other sizes, slants, pens and papers. Held out are scans of other
writers, and strokes drawn with another seed. Trains the network, makes a model folder of it, runs
`forwardpass optimize` with pruning and distillation, and copies its report to docs/optimize/digits.md. What it makes
lies in build/optimize/digits; parts that are there are not made again.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run as a program: the repository's root

from examples.optimize import digits_source as source
from examples.training import digits_pictures as pictures
from examples.training import digits_strokes as strokes

import forwardpass

ROOT = Path(__file__).resolve().parents[2]
MODEL = source.BUILD / "digits"
HELD_OUT = source.BUILD / "held-out.parquet"
FASTER = source.BUILD / "faster"
REPORT = Path(__file__).resolve().parents[2] / "docs" / "optimize" / "digits.md"
SIDE = 28
TRAINING_SEED, HELD_OUT_SEED = 31, 32
TRAINING_DRAWINGS, HELD_OUT_DRAWINGS = 800, 360  # of strokes, for each digit
TRAINING_COPIES, HELD_OUT_COPIES = 4, 2  # drawings of each scan
EPOCHS = 6

Array = NDArray[Any]
Labelled = tuple[Array, Array]  # pictures [rows, 1, 28, 28] and digits [rows]


def main() -> None:
    arguments = read_arguments()
    source.BUILD.mkdir(parents=True, exist_ok=True)
    write_data()
    if not source.WEIGHTS.exists():
        torch.save(train(*read_training()).state_dict(), source.WEIGHTS)
    if not MODEL.exists():
        forwardpass.import_model(source.create_model(), MODEL, sample={"image": read_training()[0][:16]})
    optimize(arguments.budget, arguments.resume)
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(FASTER.with_name(f"{FASTER.name}.optimize") / "report.md", REPORT)


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Trains a digits network and makes it faster.")
    parser.add_argument("--budget", default="10m", help="time for candidates [default: 10m]")
    parser.add_argument("--resume", action="store_true", help="go on with a search that was stopped")
    return parser.parse_args()


def write_data() -> None:
    """The training rows for `digits_source.py`, the held-out rows as the command reads them."""
    if not source.TRAINING.exists():
        image, label = training_rows()
        np.savez(source.TRAINING, image=image, label=label)
    if not HELD_OUT.exists():
        image, label = held_out_rows()
        pq.write_table(pa.table({"image": nested(image), "label": label}), HELD_OUT)


def training_rows(drawings: int = TRAINING_DRAWINGS, copies: int = TRAINING_COPIES) -> Labelled:
    return _rows(slice(None, pictures.TRAINED_SCANS), drawings, copies, TRAINING_SEED)


def held_out_rows(drawings: int = HELD_OUT_DRAWINGS, copies: int = HELD_OUT_COPIES) -> Labelled:
    return _rows(slice(pictures.TRAINED_SCANS, None), drawings, copies, HELD_OUT_SEED)


def _rows(scans: slice, drawings: int, copies: int, seed: int) -> Labelled:
    """``drawings`` of strokes for each digit, and ``copies`` of each scan, all drawn with this seed."""
    labelled = list(_pictures(scans, drawings, copies, np.random.default_rng(seed)))
    return np.stack([image for image, _ in labelled])[:, None], np.array([digit for _, digit in labelled])


def _pictures(scans: slice, drawings: int, copies: int, random: np.random.Generator) -> Iterator[tuple[Array, int]]:
    for sign, ways in strokes.DIGITS.items():
        for number in range(drawings):
            yield to_ink(strokes.drawing(ways[number % len(ways)], random)), int(sign)
    signs, digits = pictures.scans()
    for sign, digit in zip(signs[scans], digits[scans], strict=True):
        for _ in range(copies):
            yield to_ink(pictures.draw(sign, random)), int(digit)


def to_ink(picture: Array) -> Array:
    """28 by 28 pixels: 0 where it is paper, as the border mostly is, 1 where it differs most from that."""
    small = np.asarray(Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BOX), np.float32)
    border = np.concatenate([small[0], small[-1], small[:, 0], small[:, -1]])
    ink: Array = np.abs(small - np.median(border))
    ink /= max(1.0, float(ink.max()))
    return ink


def nested(image: Array) -> pa.Array:
    """Pictures as a column of lists in lists."""
    column = pa.array(image.ravel())
    for length in reversed(image.shape[1:]):
        column = pa.FixedSizeListArray.from_arrays(column, length)
    return column


def read_training() -> Labelled:
    inputs, labels = source.training_data()
    return inputs["image"], labels


def train(image: Array, label: Array) -> Any:
    """Adam, a rate that rises and falls once, batches of 64 in another order each epoch."""
    torch.manual_seed(1)
    model = source.Digits(source.WIDTHS)
    images, labels = torch.from_numpy(image), torch.from_numpy(label)
    steps = EPOCHS * -(-len(images) // 64)
    optimizer = torch.optim.Adam(model.parameters())
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, steps)
    for picked in (part for _ in range(EPOCHS) for part in torch.randperm(len(images)).split(64)):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images[picked]), labels[picked]).backward()
        optimizer.step()
        rate.step()
    return model.eval()


def optimize(budget: str, resume: bool) -> None:
    """The search, as it is called on a command line: a report names places as they were given."""
    model, data, out, network = (
        str(path.relative_to(ROOT)) for path in (MODEL, HELD_OUT, FASTER, Path(source.__file__).resolve())
    )
    options = ["--max-drop", "0.5%", "--objective", "throughput", "--budget", budget, "--out", out]
    options += ["--source", network, *(["--resume"] if resume else [])]
    command = [sys.executable, "-m", "forwardpass", "optimize", model, "--data", data, *options]
    subprocess.run(command, check=True, cwd=ROOT)


if __name__ == "__main__":
    main()
