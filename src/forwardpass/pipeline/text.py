"""Steps on text: normalise, tokenise, count tokens.

In flow columns of ``str`` (or UTF-8 ``bytes``), out flow texts or the integer tensors that a text
encoder takes. The tokenizers library is imported when such a step is opened. Knows no vocabulary:
that is a file in the model's folder.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from forwardpass.config import doc
from forwardpass.errors import InvalidModel
from forwardpass.pipeline.base import Apply, Step
from forwardpass.pipeline.columns import ColumnStep, map_rows, objects, require, resource
from forwardpass.types import Array, Columns, DType, TensorSpec

_PAD_TOKENS = ("[PAD]", "<pad>", "<|endoftext|>")


@dataclass(frozen=True, kw_only=True)
class NormaliseText(ColumnStep):
    """Write texts in one way: Unicode form, lower case, white space."""

    name: ClassVar[str] = "normalise_text"
    input: str = field(default="text", metadata=doc("column of texts"))
    unicode: Literal["NFC", "NFKC", "none"] = field(
        default="NFC", metadata=doc("Unicode form; `NFKC` also unifies wide, raised and joined letters")
    )
    lower: bool = field(default=False, metadata=doc("turn into lower case"))
    strip: bool = field(default=True, metadata=doc("drop white space at both ends"))
    collapse: bool = field(default=True, metadata=doc("make every run of white space, line ends too, one space"))

    def result(self, spec: TensorSpec) -> TensorSpec:
        return textual(self, spec)

    def prepare(self, folder: Path) -> Callable[[Array], Array]:
        return lambda column: objects(map_rows(self._normalise, column, self.input), len(column))

    def _normalise(self, value: Any) -> str:
        text = to_text(value)
        if self.unicode != "none":
            text = unicodedata.normalize(self.unicode, text)
        if self.collapse:
            head = " " if text[:1].isspace() and not self.strip else ""
            tail = " " if text[-1:].isspace() and not self.strip and text.strip() else ""
            text = head + " ".join(text.split()) + tail
        elif self.strip:
            text = text.strip()
        return text.lower() if self.lower else text


@dataclass(frozen=True, kw_only=True)
class Tokenise(Step):
    """Turn texts into token ids, padded on the right, with their attention mask (INT64).

    The batch is padded to its longest text, or to `length`. Longer texts are cut to `max_length`.
    """

    name: ClassVar[str] = "tokenise"
    input: str = field(default="text", metadata=doc("column of texts"))
    pair: str | None = field(default=None, metadata=doc("column of second texts, for models that take two"))
    tokenizer: str = field(default="tokenizer.json", metadata=doc("file of the tokenizers library"))
    max_length: int | None = field(
        default=None, metadata=doc("most tokens, special ones included; default: `length`, else as the file says")
    )
    length: int | None = field(default=None, metadata=doc("pad every batch to this many tokens; default: its longest"))
    pad_token: str | None = field(
        default=None, metadata=doc("token to pad with; default: as the file says, else `[PAD]` or `<pad>`")
    )
    special_tokens: bool = field(default=True, metadata=doc("add the tokenizer's special tokens (`[CLS]` …)"))
    input_ids: str = field(default="input_ids", metadata=doc("column to write the ids to"))
    attention_mask: str | None = field(
        default="attention_mask", metadata=doc("column for 1 at tokens and 0 at padding; `null`: not written")
    )
    token_type_ids: str | None = field(
        default=None, metadata=doc("column for 0 at the first text and 1 at its pair; default: not written")
    )

    def __post_init__(self) -> None:
        for name, value in (("max_length", self.max_length), ("length", self.length)):
            require(value is None or value >= 1, self, f"{name} is {value}; give a number of tokens from 1")
        fits = self.length is None or self.max_length is None or self.max_length <= self.length
        require(fits, self, f"max_length {self.max_length} does not fit into length {self.length}")

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.input,) if self.pair is None else (self.input, self.pair)

    def writes(self, columns: Mapping[str, TensorSpec]) -> tuple[TensorSpec, ...]:
        for name in self.reads:
            textual(self, columns[name])
        names = (self.input_ids, self.attention_mask, self.token_type_ids)
        return tuple(TensorSpec(name, DType.INT64, (None, self.length)) for name in names if name)

    def open(self, folder: Path) -> Apply:
        tokenizer = open_tokenizer(self, folder, self.tokenizer)
        pad = self._pad_id(tokenizer)
        self._limit(tokenizer)

        def apply(columns: Columns) -> Columns:
            texts = [texts_of(columns[name], name) for name in self.reads]
            whole = texts[0] if self.pair is None else list(zip(*texts, strict=True))
            encodings = tokenizer.encode_batch_fast(whole, add_special_tokens=self.special_tokens)
            return self._pad(encodings, pad)

        return apply

    def _limit(self, tokenizer: Any) -> None:
        tokenizer.no_padding()  # padding is ours: the file's may go to a multiple or to the left
        most = self.max_length or self.length
        if most is None:
            return
        special = tokenizer.num_special_tokens_to_add(self.pair is not None) if self.special_tokens else 0
        require(most > special, self, f"max_length {most} leaves no room beside {special} special tokens")
        tokenizer.enable_truncation(most)

    def _pad_id(self, tokenizer: Any) -> int:
        if self.pad_token is None and tokenizer.padding:
            return int(tokenizer.padding["pad_id"])
        for token in [self.pad_token] if self.pad_token else _PAD_TOKENS:
            if (known := tokenizer.token_to_id(token)) is not None:
                return int(known)
        raise InvalidModel(f"{self.name}: the tokenizer has no token {self.pad_token or '[PAD]'!r}; give its pad_token")

    def _pad(self, encodings: list[Any], pad: int) -> Columns:
        lengths = np.array([len(item) for item in encodings], dtype=np.int64)
        # one token at least: artifacts fail on an axis of none
        width = self.length or max(int(lengths.max(initial=0)), 1)
        ids = np.full((len(encodings), width), pad, dtype=np.int64)
        for row, item in enumerate(encodings):
            ids[row, : lengths[row]] = item.ids
        written: Columns = {self.input_ids: ids}
        if self.attention_mask:
            written[self.attention_mask] = (np.arange(width) < lengths[:, None]).astype(np.int64)
        if self.token_type_ids:
            types = written[self.token_type_ids] = np.zeros_like(ids)
            for row, item in enumerate(encodings):
                types[row, : lengths[row]] = item.type_ids
        return written


@dataclass(frozen=True, kw_only=True)
class BagOfTokens(ColumnStep):
    """Count the tokens of each text: FP32 `[rows, vocabulary]`. Special tokens are not added."""

    name: ClassVar[str] = "bag_of_tokens"
    input: str = field(default="text", metadata=doc("column of texts"))
    tokenizer: str = field(default="tokenizer.json", metadata=doc("file of the tokenizers library"))

    def result(self, spec: TensorSpec) -> TensorSpec:
        return TensorSpec(textual(self, spec).name, DType.FP32, (None, None))

    def prepare(self, folder: Path) -> Callable[[Array], Array]:
        tokenizer = open_tokenizer(self, folder, self.tokenizer)
        tokenizer.no_padding()
        size = max(tokenizer.get_vocab().values()) + 1

        def count(column: Array) -> Array:
            encodings = tokenizer.encode_batch_fast(texts_of(column, self.input), add_special_tokens=False)
            counts = np.zeros((len(encodings), size), dtype=np.float32)
            for row, item in enumerate(encodings):
                np.add.at(counts[row], item.ids, 1.0)
            return counts

        return count


def open_tokenizer(step: Step, folder: Path, name: str) -> Any:
    """The tokenizer of a model's folder. Raises ``InvalidModel`` where it cannot be read."""
    # threads of the library do not survive a fork, and a worker has its own share of the cores
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from tokenizers import Tokenizer

    file = resource(step, folder, name)
    try:
        return Tokenizer.from_file(str(file))
    except Exception as reason:  # noqa: BLE001 - the library raises bare Exception
        raise InvalidModel(f"{step.name}: {name} is no tokenizer file: {reason}") from None


def textual(step: Step, spec: TensorSpec) -> TensorSpec:
    """The spec, refused where it is not one text per row."""
    require(spec.dtype is DType.BYTES, step, f"column {spec.name!r} is {spec.dtype}; it works on text")
    require(len(spec.shape) == 1, step, f"column {spec.name!r} has {len(spec.shape)} axes; give one text per row")
    return spec


def texts_of(column: Array, name: str) -> list[str]:
    """Every row as ``str``. Raises ``InvalidRows`` for rows that are no text."""
    return map_rows(to_text, column, name)


def to_text(value: Any) -> str:
    """``str`` of a ``str`` or UTF-8 ``bytes``; raises ``ValueError`` saying what it is instead."""
    if isinstance(value, str):
        return value
    if not isinstance(value, bytes):
        raise ValueError(f"{shorten(value)} is no text; send a string")
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as reason:
        raise ValueError(f"{shorten(value)} is not valid UTF-8 at byte {reason.start}; send text as UTF-8") from None


def shorten(value: Any) -> str:
    """A value for a message, at most about 40 characters of it."""
    text = repr(value[:60] if isinstance(value, str | bytes) else value)
    return text if len(text) <= 40 else text[:39] + "…"
