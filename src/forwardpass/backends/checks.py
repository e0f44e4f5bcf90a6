"""What several backends check alike: the columns they are given, and the lines of ``model.yaml`` they cannot obey.

For libraries that do not check these themselves, or say it in words that a caller cannot use.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from forwardpass.config import BackendConfig
from forwardpass.errors import InvalidInput, InvalidModel, InvalidRows
from forwardpass.types import Array, Columns, DType, TensorSpec


def check_columns(columns: Columns, inputs: Sequence[TensorSpec]) -> None:
    """Raise ``InvalidInput`` unless these are exactly the inputs, each of its type and shape."""
    for unknown in columns.keys() - {spec.name for spec in inputs}:
        raise InvalidInput(f"the artifact has no input {unknown!r}; it takes {', '.join(s.name for s in inputs)}")
    for spec in inputs:
        if spec.name not in columns:
            raise InvalidInput(f"input {spec.name!r} is missing")
        array = columns[spec.name]
        if not _is_of(array, spec.dtype):
            raise InvalidInput(f"input {spec.name!r} is of type {array.dtype}; the artifact takes {spec.dtype}")
        if not _fits(array.shape, spec.shape):
            raise InvalidInput(
                f"input {spec.name!r} has shape {list(array.shape)}; the artifact takes {shape_in_words(spec.shape)}"
            )


def check_texts(name: str, texts: Array) -> list[str]:
    """Texts as ``str``. Raises ``InvalidRows`` where some are not UTF-8."""
    decoded: list[str] = []
    wrong: dict[int, str] = {}
    for row, text in enumerate(texts.tolist()):
        try:
            decoded.append(text if isinstance(text, str) else bytes.decode(text))
        except (UnicodeDecodeError, TypeError) as reason:
            wrong[row] = f"input {name!r}: not UTF-8 text ({reason})"
    if wrong:
        raise InvalidRows(wrong)
    return decoded


def require_plain(artifact: Path, config: BackendConfig | None, library: str) -> None:
    """Raise ``InvalidModel`` where ``model.yaml`` asks for a device or precision that a library does not have."""
    config = config or BackendConfig()
    if config.device != "cpu":
        raise InvalidModel(f"{artifact.name}: {library} runs on the CPU; remove `device: {config.device}`")
    if config.precision != "fp32":
        raise InvalidModel(
            f"{artifact.name}: {library} computes as the artifact says; remove `precision: {config.precision}`"
        )


def shape_in_words(shape: Sequence[int | None]) -> str:
    return f"[{', '.join('any' if axis is None else str(axis) for axis in shape)}]"


def one_line(reason: object) -> str:
    """A library's message in one line of at most 300 characters."""
    line = " ".join(str(reason).split()).rstrip(". ")
    return line if len(line) <= 300 else line[:299] + "…"


def _is_of(array: Array, dtype: DType) -> bool:
    if dtype is DType.BYTES:
        return array.dtype.kind in "OSU"
    return bool(array.dtype == dtype.numpy)


def _fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(shape) == len(wanted) and all(
        axis is None or axis == size for size, axis in zip(shape, wanted, strict=True)
    )


def empty_columns(outputs: Sequence[TensorSpec]) -> Columns:
    """Zero rows of every output; libraries fail on them, or answer in another shape."""
    return {spec.name: np.empty((0, *(axis or 0 for axis in spec.shape[1:])), spec.dtype.numpy) for spec in outputs}
