"""Columns in a file, for a process of our own to read: every type, text and images included, and no pickles.

An ``.npz`` archive. Texts and byte strings are stored as one run of bytes with lengths, bfloat16 as its bits.
Knows nothing of what the columns mean.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from forwardpass.types import Array, Columns, DType

_BYTES, _TEXT, _BF16, _PLAIN = "bytes", "text", "bf16", "plain"


def write_columns(path: Path, columns: Columns) -> None:
    """Write columns of any of our types; rows of an object column are all texts or all byte strings."""
    arrays: Columns = {}
    for name, column in columns.items():
        if column.dtype.kind in "OSU":
            items = column.ravel().tolist()
            kind = _TEXT if all(isinstance(item, str) for item in items) else _BYTES
            parts = [item.encode("utf-8", "surrogatepass") if isinstance(item, str) else item for item in items]
            arrays[f"{kind}:{name}"] = np.frombuffer(b"".join(parts), np.uint8)
            arrays[f"lengths:{name}"] = np.array([len(part) for part in parts], np.int64).reshape(column.shape)
        elif column.dtype.name == "bfloat16":
            arrays[f"{_BF16}:{name}"] = column.view(np.uint16)
        else:
            arrays[f"{_PLAIN}:{name}"] = column
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def read_columns(path: Path) -> Columns:
    """What ``write_columns`` wrote."""
    columns: Columns = {}
    with np.load(path, allow_pickle=False) as archive:
        for key in archive.files:
            kind, _, name = key.partition(":")
            if kind == _PLAIN:
                columns[name] = archive[key]
            elif kind == _BF16:
                columns[name] = archive[key].view(DType.BF16.numpy)
            elif kind in (_TEXT, _BYTES):
                columns[name] = _objects(archive[key].tobytes(), archive[f"lengths:{name}"], kind == _TEXT)
    return columns


def _objects(content: bytes, lengths: Array, is_text: bool) -> Array:
    ends = np.cumsum(lengths.ravel()).tolist()
    parts = [content[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)] if ends else []
    column = np.empty(len(parts), object)
    column[:] = [part.decode("utf-8", "surrogatepass") for part in parts] if is_text else parts
    return column.reshape(lengths.shape)
