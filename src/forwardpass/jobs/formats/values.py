"""Arrow's values as JSON text. Knows no files.

What JSON has no word for: NaN and infinities become null, byte strings ``{"b64": …}``, times ISO 8601 (to the
microsecond), decimals text, durations seconds.
"""

from __future__ import annotations

import base64
import datetime
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

_SHORT_FLOATS = (pa.float16(), pa.float32())


def json_bytes(value: Any) -> bytes:
    """One of ``json_values``, or a dictionary of them, as JSON."""
    return orjson.dumps(value, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY)


def json_values(array: pa.Array) -> list[Any]:
    """A column as values that ``json_bytes`` can write. Short floats stay short: 0.1, not 0.10000000149."""
    kind = array.type
    if kind in _SHORT_FLOATS:
        return list(array.to_numpy(zero_copy_only=False))  # a null becomes NaN, which is written as null
    if is_list(kind) and kind.value_type in _SHORT_FLOATS:
        return _float_lists(array)
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        array = array.cast(pa.timestamp("us", kind.tz), safe=False)
    values: list[Any] = array.to_pylist()
    return values


def is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _float_lists(array: pa.Array) -> list[Any]:
    """Each list as an array of its own; lists that are null take up no values once flattened."""
    values = array.flatten().to_numpy(zero_copy_only=False)
    lengths = pc.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False)
    parts = np.split(values, np.cumsum(lengths)[:-1]) if len(array) else []
    return [part if valid else None for part, valid in zip(parts, array.is_valid().to_pylist(), strict=True)]


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode("ascii")}
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    return str(value)
