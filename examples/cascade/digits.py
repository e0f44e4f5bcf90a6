"""A tiny network for the device that asks a better one when unsure: `python examples/cascade/digits.py`, some minutes.

Pictures are made as in `examples/optimize/digits.py` (synthetic drawings, and scikit-learn's scans of handwriting),
with noise on top. Held out are scans of writers who were not trained on, and drawings with another seed. Trains both
networks, quantises the tiny one to int8, runs `forwardpass calibrate`, and copies its report to docs/cascade/digits.md.
What it makes lies in build/cascade: models/ is a repository to serve. Parts that are there are not made again.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run as a program: the repository's root

from examples.optimize import digits as drawn
from examples.optimize.digits_source import Digits

import forwardpass
from forwardpass.optimize.recipe import Parent
from forwardpass.optimize.recipes.quantize import StaticInt8
from forwardpass.registry import find_model

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "cascade"
MODELS = BUILD / "models"
TRAINING, HELD_OUT = BUILD / "training.npz", BUILD / "held-out.parquet"
TINY, LARGE, CASCADE = MODELS / "digits-tiny", MODELS / "digits-large", MODELS / "digits-cascade"
REPORT = ROOT / "docs" / "cascade" / "digits.md"
WIDTHS = {"digits-tiny": (4, 8, 16), "digits-large": (16, 32, 64)}  # channels
EPOCHS = {"digits-tiny": 12, "digits-large": 8}
NOISE = 0.3  # most of its standard deviation, which each picture draws; ink is 1
NOISE_SEEDS = 41, 42  # of training and held-out rows
HELD_OUT_COPIES = 2  # drawings of each scan
CALIBRATION = 256  # training rows that the quantisation takes its ranges from

Array = NDArray[Any]
Labelled = tuple[Array, Array]  # pictures [rows, 1, 28, 28] and digits [rows]


def main() -> None:
    arguments = read_arguments()
    MODELS.mkdir(parents=True, exist_ok=True)
    write_data()
    with np.load(TRAINING) as data:
        training = data["image"], data["label"]
    write_large(training)
    write_tiny(training)
    calibrate(arguments.max_escalation, arguments.price)


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Trains a tiny and a large digits network, and makes a cascade.")
    parser.add_argument("--max-escalation", default="20%", help="most of the rows to ask about [default: 20%%]")
    parser.add_argument("--price", default="0.001", help="of one escalated row [default: 0.001]")
    return parser.parse_args()


def write_data() -> None:
    """The training rows; the held-out rows as the command reads them."""
    if not TRAINING.exists():
        image, label = drawn.training_rows()
        np.savez(TRAINING, image=noisy(image, NOISE_SEEDS[0]), label=label)
    if not HELD_OUT.exists():
        image, label = drawn.held_out_rows(copies=HELD_OUT_COPIES)
        pq.write_table(pa.table({"image": drawn.nested(noisy(image, NOISE_SEEDS[1])), "label": label}), HELD_OUT)


def noisy(image: Array, seed: int) -> Array:
    """Pictures with Gaussian noise, some with little and some with much, cut to 0 to 1."""
    random = np.random.default_rng(seed)
    spread = random.uniform(0, NOISE, (len(image), 1, 1, 1))
    return np.clip(image + spread * random.standard_normal(image.shape), 0, 1).astype(np.float32)


def train(name: str, training: Labelled) -> Any:
    """Adam, a rate that rises and falls once, batches of 64 in another order each epoch."""
    torch.manual_seed(1)
    model = Digits(WIDTHS[name])
    images, labels = (torch.from_numpy(array) for array in training)
    steps = EPOCHS[name] * -(-len(images) // 64)
    optimizer = torch.optim.Adam(model.parameters())
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, steps)
    for picked in (part for _ in range(EPOCHS[name]) for part in torch.randperm(len(images)).split(64)):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images[picked]), labels[picked]).backward()
        optimizer.step()
        rate.step()
    return model.eval()


def write_large(training: Labelled) -> None:
    if not LARGE.exists():
        write_folder(LARGE, train(LARGE.name, training), training)


def write_tiny(training: Labelled) -> None:
    """Trained as the large one is, then quantised to int8 with ranges from training rows."""
    if TINY.exists():
        return
    whole = BUILD / "digits-tiny-fp32"
    if not whole.exists():
        write_folder(whole, train(TINY.name, training), training)
    rows = np.random.default_rng(0).permutation(len(training[0]))[:CALIBRATION]
    TINY.mkdir()
    StaticInt8("percentile").make(Parent(find_model(whole), [{"image": training[0][rows]}]), TINY)


def write_folder(folder: Path, model: Any, training: Labelled) -> None:
    """A model folder that answers with the digit and the probability of each."""
    forwardpass.import_model(model, folder, sample={"image": training[0][:16]})
    scores = forwardpass.load(folder, threads=1).signature.outputs[0].name
    lines = {
        "description": "Reads a handwritten digit from 28 by 28 pixels of ink",
        "postprocess": [
            {"step": "softmax", "input": scores, "output": "probabilities"},
            {"step": "arg_max", "input": "probabilities", "output": "digit"},
        ],
        "outputs": ["digit", "probabilities"],
    }
    (folder / "model.yaml").write_text(yaml.safe_dump(lines, sort_keys=False), encoding="utf-8")


def calibrate(max_escalation: str, price: str) -> None:
    """Choose the threshold anew, and keep the report."""
    shutil.rmtree(CASCADE, ignore_errors=True)
    options = ["--against", str(LARGE), "--max-escalation", max_escalation, "--price", price, "--output", str(CASCADE)]
    command = [sys.executable, "-m", "forwardpass", "calibrate", str(TINY), "--data", str(HELD_OUT), *options]
    subprocess.run(command, check=True)
    made = CASCADE.with_name(f"{CASCADE.name}.calibrate")
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text((made / "report.md").read_text(encoding="utf-8").replace("report.svg", "digits.svg"), "utf-8")
    shutil.copyfile(made / "report.svg", REPORT.with_name("digits.svg"))


if __name__ == "__main__":
    main()
