"""The words: element types to numpy and back."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from forwardpass.types import Array, DType, InputSpec, Outcome, Record, StageTimes, TensorSpec


@pytest.mark.parametrize("dtype", DType)
def test_every_type_has_a_numpy_type_that_leads_back(dtype: DType) -> None:
    assert DType.of(np.empty(0, dtype.numpy)) is dtype


def test_the_numpy_types_are_as_wide_as_their_names_say() -> None:
    for dtype in DType:
        digits = "".join(letter for letter in dtype.name if letter.isdigit())
        if digits:
            assert dtype.numpy.itemsize * 8 == int(digits), dtype


@pytest.mark.parametrize("array", [np.array(["a"]), np.array([b"a"]), np.array(["a", b"a"], object)])
def test_texts_of_any_kind_are_bytes(array: Array) -> None:
    assert DType.of(array) is DType.BYTES


def test_byte_order_does_not_change_the_type() -> None:
    assert DType.of(np.ones(1, ">f4")) is DType.FP32


def test_which_types_are_floats() -> None:
    assert [dtype.value for dtype in DType if dtype.is_float] == ["FP16", "BF16", "FP32", "FP64"]


def test_bfloat16_costs_an_import_only_where_it_is_used() -> None:
    code = "import sys, forwardpass.types as t; t.DType.FP32.numpy; assert 'ml_dtypes' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_input_has_the_name_of_its_tensor() -> None:
    assert InputSpec(TensorSpec("x", DType.FP32, (None,))).name == "x"


def test_stage_times_add_up() -> None:
    assert StageTimes(1.0, 2.0, 4.0).total == 7.0


def test_a_record_cannot_be_changed() -> None:
    times = dict.fromkeys(["at", "total", "queue", "preprocess", "forward", "postprocess", "compute"], 0.0)
    counts = dict.fromkeys(["rows", "bytes_in", "bytes_out", "batch_rows"], 1)
    record = Record(id="a", model="m", version="1", door="v2", outcome=Outcome.OK, **times, **counts)  # type: ignore[arg-type]
    with pytest.raises(AttributeError):
        record.rows = 2  # type: ignore[misc]
