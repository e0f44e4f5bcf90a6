"""What `forwardpass optimize --source` needs to prune and distil the digits network: model, data, student.

The network and where its files lie; `digits.py` makes those files (pictures drawn from strokes and from
scikit-learn's scans, weights trained here). Five convolutions of three by three; before each new width, height and
breadth are halved. Knows neither how pictures are drawn nor how the network is trained.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

BUILD = Path(__file__).resolve().parents[2] / "build" / "optimize" / "digits"
TRAINING = BUILD / "training.npz"
WEIGHTS = BUILD / "weights.pt"
WIDTHS = (32, 64, 128)
STUDENT_WIDTHS = (8, 16, 32)
CLASSES = 10


class Digits(nn.Module):  # type: ignore[misc]
    """Grey pictures [rows, 1, 28, 28], ink from 0 to 1, in; scores before the softmax [rows, 10] out."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[Any] = _convolution(1, widths[0])
        for before, width in pairwise(widths):
            layers += [nn.MaxPool2d(2), *_convolution(before, width), *_convolution(width, width)]
        self.features = nn.Sequential(*layers)
        self.classes = nn.Linear(widths[-1], CLASSES)

    def forward(self, image: Any) -> Any:
        return self.classes(self.features(image).mean((2, 3)))


def _convolution(before: int, after: int) -> list[Any]:
    return [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]


def create_model() -> Any:
    model = Digits(WIDTHS)
    model.load_state_dict(torch.load(WEIGHTS, weights_only=True))
    return model.eval()


def create_student() -> Any:
    return Digits(STUDENT_WIDTHS)


def training_data() -> tuple[dict[str, NDArray[Any]], NDArray[Any]]:
    with np.load(TRAINING) as data:
        return {"image": data["image"]}, data["label"]
