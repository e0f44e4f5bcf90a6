"""One or more contract examples for every step, and makers of texts, images and tokenizers.

A new step needs an entry in ``EXAMPLES``; ``test_steps.py`` fails without one and runs the whole
contract over it.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from forwardpass.types import Array, Columns, DType, TensorSpec

INVALID_UTF8 = b"caf\xe9"


def column(*values: Any) -> Array:
    """An object column, one value per row; arrays stay whole."""
    made = np.empty(len(values), dtype=object)
    for row, value in enumerate(values):
        made[row] = value
    return made


def picture(height: int, width: int, *channels: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 256, (height, width, *channels), dtype=np.uint8)


def file_of(pixels: Array, format: str = "PNG", mode: str | None = None, **options: Any) -> bytes:
    """An image file of an array, or of the array converted to a Pillow mode."""
    image = Image.fromarray(pixels)
    buffer = io.BytesIO()
    (image.convert(mode) if mode else image).save(buffer, format, **options)
    return buffer.getvalue()


def write_tokenizer(folder: Path, words: Sequence[str] = ("the", "report", "is", "late", "now")) -> None:
    """A small word-level tokenizer with BERT's special tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocabulary = {word: place for place, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))


def spec_of(name: str, values: Array) -> TensorSpec:
    """What a pipeline would know of a column: rows are free, and so is what differs between them."""
    if values.dtype == object and len(values) and isinstance(values[0], np.ndarray):
        return TensorSpec(name, DType.of(values[0]), (None, None, None, *values[0].shape[2:]))
    return TensorSpec(name, DType.of(values), (None, *values.shape[1:]))


@dataclass(frozen=True)
class Example:
    """``wrong`` is a batch of which exactly ``wrong_rows`` must be refused; ``padded`` names
    written columns whose rows are padded to the longest of the batch."""

    parameters: dict[str, Any]
    columns: Columns
    wrong: Columns = field(default_factory=dict)
    wrong_rows: tuple[int, ...] = ()
    padded: tuple[str, ...] = ()


_TEXTS = column("the report is late", "  The\tREPORT \n now ", b"caf\xc3\xa9 now", "", "ﬁne")
_WRONG_TEXTS = {"text": column("the", INVALID_UTF8, "now", 7)}
_IMAGES = column(picture(40, 30, 3), picture(8, 90, 3, seed=1), picture(16, 12, 3, seed=2))
_GRAY = column(picture(40, 30), picture(8, 90, seed=1), picture(16, 12, seed=2))
_SAME_SIZE = np.stack([picture(12, 16, 3, seed=seed) for seed in range(3)])
_SCORES = np.array([[1.0, -2.0, 3.0], [0.0, 0.0, 0.0], [900.0, -900.0, 5.0]], dtype=np.float32)
_SHARES = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.3, 0.4, 0.3]], dtype=np.float32)
_RISK = np.array([0.1, 0.3, 0.5, 0.8, 1.0], dtype=np.float32)
_NAN_RISK = np.array([0.1, np.nan, 0.5, np.nan], dtype=np.float32)
_AMOUNT = np.array([1.5, np.nan, -3.25, 1e6], dtype=np.float32)
_MATRIX = np.array([[1, 2, 3], [4, np.nan, 6], [7, 8, 9], [0, 0, 0]], dtype=np.float64)
_COLOURS = column("red", b"green", "red", "blue")
_KNOWN_COLOURS = ["red", "green", "blue"]

EXAMPLES: dict[str, list[Example]] = {
    "stack_columns": [
        Example(
            {"inputs": ["count", "matrix", "amount"], "output": "features"},
            {"amount": _AMOUNT, "matrix": _MATRIX, "count": np.arange(4, dtype=np.int64)},
        )
    ],
    "rename": [Example({"columns": {"a": "b", "c": "d"}}, {"a": _AMOUNT, "c": _COLOURS})],
    "cast": [
        Example(
            {"input": "x", "dtype": "INT8"},
            {"x": np.array([1.9, -128.0, 127.0])},
            {"x": np.array([1.0, 128.0, np.nan, -3.0])},
            (1, 2),
        ),
        Example(
            {"input": "x", "dtype": "UINT8"},
            {"x": np.array([[1, 2], [3, 255]])},
            {"x": np.array([[1, 2], [256, 0], [0, -1]])},
            (1, 2),
        ),
        Example({"input": "x", "output": "y", "dtype": "FP16"}, {"x": np.array([1.5, np.nan, 1e9])}),
        Example({"input": "x", "dtype": "BOOL"}, {"x": np.array([0, 3])}),
    ],
    "round": [
        Example({"input": "x", "decimals": 2}, {"x": _SHARES / 3}),
        Example({"input": "x"}, {"x": np.array([1, 2])}),
    ],
    "select": [Example({"input": "x", "index": 1, "output": "y"}, {"x": _SHARES})],
    "reshape": [
        Example({"input": "x", "shape": [2, None]}, {"x": np.arange(24.0).reshape(3, 2, 4)}),
        Example({"input": "x", "shape": [1]}, {"x": _AMOUNT}),
        Example({"input": "x", "shape": []}, {"x": _AMOUNT[:, None]}),
    ],
    "normalise_text": [
        Example({}, {"text": _TEXTS}, _WRONG_TEXTS, (1, 3)),
        Example({"unicode": "NFKC", "lower": True, "strip": False, "output": "y"}, {"text": _TEXTS}),
        Example({"unicode": "none", "collapse": False}, {"text": _TEXTS}),
    ],
    "tokenise": [
        Example({}, {"text": _TEXTS}, _WRONG_TEXTS, (1, 3), padded=("input_ids", "attention_mask")),
        Example({"length": 6, "token_type_ids": "types"}, {"text": _TEXTS}),
        Example(
            {"pair": "other", "attention_mask": None, "token_type_ids": "types", "input_ids": "ids"},
            {"text": _TEXTS, "other": _TEXTS[::-1].copy()},
            padded=("ids", "types"),
        ),
    ],
    "bag_of_tokens": [Example({"output": "counts"}, {"text": _TEXTS}, _WRONG_TEXTS, (1, 3))],
    "decode_image": [
        Example(
            {},
            {"image": column(*(file_of(image) for image in _IMAGES))},
            {"image": column(file_of(_IMAGES[0])[:200], file_of(_IMAGES[1]), b"no image", "text")},
            (0, 2, 3),
        ),
        Example(
            {"mode": "gray", "output": "gray", "at_least": [4, 4]},
            {"image": column(*(file_of(image, "JPEG") for image in _IMAGES))},
        ),
    ],
    "resize_image": [
        Example({"width": 10, "height": 6}, {"image": _IMAGES}),
        Example({"width": 10, "height": 6, "fit": "crop", "interpolation": "lanczos"}, {"image": _GRAY}),
        Example({"width": 16, "height": 12, "fit": "pad", "pad_value": 9}, {"image": _SAME_SIZE}),
    ],
    "centre_crop": [
        Example(
            {"width": 9, "height": 8},
            {"image": _IMAGES},
            {"image": column(picture(8, 9, 3), picture(7, 9, 3), picture(8, 8, 3))},
            (1, 2),
        ),
        Example({"width": 5, "height": 5, "output": "y"}, {"image": _SAME_SIZE}),
    ],
    "normalise_image": [
        Example({"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.4, 0.3]}, {"image": _SAME_SIZE}),
        Example({"mean": 0.5, "layout": "HWC"}, {"image": _SAME_SIZE[..., 0]}),
        Example({"scale": 1.0, "output": "pixels"}, {"image": _IMAGES}),
    ],
    "layout": [
        Example({}, {"image": _SAME_SIZE}),
        Example({"to": "HWC"}, {"image": _SAME_SIZE[..., 0]}),
        Example({}, {"image": _IMAGES}),
    ],
    "find_ink": [Example({}, {"image": _GRAY})],
    "fit_ink": [Example({"size": 8}, {"image": column(*(image / np.float32(255) for image in _GRAY))})],
    "impute": [
        Example(
            {"values": {"amount": 0.5, "matrix": [1, 2, 3], "colour": "none"}},
            {"amount": _AMOUNT, "matrix": _MATRIX, "colour": column("red", "", b"", None)},
        )
    ],
    "scale": [
        Example({"input": "x", "mean": 2, "std": 0.5}, {"x": _AMOUNT}),
        Example({"input": "x", "mean": [1, 2, 3], "std": [1, 2, 4]}, {"x": _MATRIX}),
        Example({"input": "x", "mean": 2}, {"x": np.array([1, 2])}),
    ],
    "clip": [
        Example({"input": "x", "minimum": 0, "maximum": 2.5}, {"x": _AMOUNT}),
        Example({"input": "x", "minimum": 3, "output": "y"}, {"x": _MATRIX}),
    ],
    "one_hot": [
        Example(
            {"input": "x", "categories": _KNOWN_COLOURS},
            {"x": _COLOURS},
            {"x": column("red", "gren", INVALID_UTF8)},
            (1, 2),
        ),
        Example({"input": "x", "categories": [7, 9], "unknown": "zeros"}, {"x": np.array([7, 8, 9])}),
    ],
    "ordinal": [
        Example({"input": "x", "categories": _KNOWN_COLOURS}, {"x": _COLOURS}, {"x": column("", "red")}, (0,)),
        Example({"input": "x", "categories": ["red"], "unknown": -1, "output": "y"}, {"x": _COLOURS[:, None]}),
    ],
    "softmax": [
        Example({"input": "logits", "output": "probabilities"}, {"logits": _SCORES}),
        Example({"input": "logits"}, {"logits": _SCORES.astype(np.float16)}),
    ],
    "sigmoid": [
        Example({"input": "logits"}, {"logits": _SCORES}),
        Example({"input": "logits"}, {"logits": _SCORES[:, 0].astype(np.float64)}),
    ],
    "arg_max": [
        Example({"input": "p", "output": "class", "largest": "confidence"}, {"p": _SHARES}),
        Example({"input": "p"}, {"p": _SCORES.astype(np.int32)}),
    ],
    "top_k": [
        Example({"k": 2, "labels": ["a", "b", 3]}, {"probabilities": _SHARES}),
        Example({"k": 3, "file": "labels.txt", "values": None}, {"probabilities": _SHARES}),
        Example({"input": "p", "k": 1}, {"p": _SHARES}),
    ],
    "labels": [
        Example({"input": "class", "labels": ["a", "b", "c"]}, {"class": np.array([2, 0, 1])}),
        Example({"input": "class", "file": "labels.txt", "output": "label"}, {"class": np.array([[2, 0], [1, 1]])}),
    ],
    "threshold": [
        Example({"input": "risk", "output": "risky"}, {"risk": _RISK}, {"risk": _NAN_RISK}, (1, 3)),
        Example({"input": "risk", "then": "yes", "otherwise": "no", "at_least": 0.3}, {"risk": _RISK}),
        Example({"input": "p", "at_least": [0.1, 0.4, 0.8]}, {"p": _SHARES}),
    ],
    "decide": [
        Example(
            {"input": "risk", "thresholds": {"review": 0.3, "block": 0.8}, "otherwise": "approve"},
            {"risk": _RISK},
            {"risk": _NAN_RISK},
            (1, 3),
        ),
        Example({"input": "risk", "thresholds": {"high": 1}, "otherwise": "low"}, {"risk": _RISK[:, None]}),
    ],
    "unknown_below": [
        Example(
            {"confidence": "p", "per_label": {"b": 0.9}, "reject": ["c"]},
            {"label": column("a", "b", "c"), "p": _SHARES},
            {"label": column("a", 3), "p": _SHARES[:2]},
            (1,),
        ),
        Example({"input": "label", "output": "checked", "reject": ["a"]}, {"label": column("a", "b")}),
    ],
}
