"""The docstring encoder for recipes that train: its PyTorch model, its training rows, and a student.

Data: `build/optimize-text/train.csv`, which `text.py` beside this file collects from the docstrings of
the standard library and of installed packages; held-out packages are not in it. Run `text.py` first.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the file is run by itself
from examples.optimize.text import MODEL, TRAIN, WEIGHTS, Encoder, Student, encode, read_rows


def open_tokenizer() -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(MODEL / "tokenizer.json"))


def create_model() -> Encoder:
    """The trained encoder."""
    model = Encoder(open_tokenizer().get_vocab_size())
    model.load_state_dict(torch.load(WEIGHTS, weights_only=True))
    model.eval()
    return model


def training_data() -> tuple[dict[str, NDArray[np.int64]], NDArray[np.int64]]:
    """What the artifact takes, and the topics' numbers."""
    return encode(open_tokenizer(), read_rows(TRAIN))


def create_student() -> Student:
    """A network without attention, not trained."""
    return Student(open_tokenizer().get_vocab_size())
