"""Reading held-out rows: every format, labels, rows set apart, rows left out, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from forwardpass.errors import InvalidInput
from forwardpass.optimize.heldout import read_held_out
from forwardpass.types import DType, InputSpec, InputType, Signature, TensorSpec

NUMBERS = Signature(
    (InputSpec(TensorSpec("a", DType.FP32, (None,)), InputType.NUMBER, allow_nan=False),),
    (TensorSpec("y", DType.FP32, (None,)),),
    batched=True,
)
PICTURES = Signature(
    (InputSpec(TensorSpec("image", DType.BYTES, (None,)), InputType.IMAGE),), NUMBERS.outputs, batched=True
)


def table(path: Path, rows: int = 20, label: str = "label") -> Path:
    pq.write_table(pa.table({"a": [float(row) for row in range(rows)], label: [row % 3 for row in range(rows)]}), path)
    return path


def test_calibration_rows_are_never_held_out(tmp_path: Path) -> None:
    found = read_held_out([str(table(tmp_path / "t.parquet", 1000))], NUMBERS)
    held, calibration = found.rows.numbers.tolist(), found.calibration.numbers.tolist()
    assert len(calibration) == 100
    assert sorted(held + calibration) == list(range(1000))
    assert found.rows.columns["a"].tolist() == found.rows.numbers.tolist(), "a row keeps its own values"
    again = read_held_out([str(tmp_path / "t.parquet")], NUMBERS)
    assert again.calibration.numbers.tolist() == calibration, "the draw is fixed"
    assert max(np.diff(calibration)) > 12, "and a draw, not a block"


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_every_format_gives_the_same_rows(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows.{suffix}"
    rows = [(row + 0.5, f"c{row % 3}") for row in range(12)]
    if suffix == "parquet":
        pq.write_table(pa.table({"a": [a for a, _ in rows], "target": [label for _, label in rows]}), path)
    elif suffix == "csv":
        path.write_text("a,target\n" + "".join(f"{a},{label}\n" for a, label in rows))
    else:
        path.write_text("".join(json.dumps({"a": a, "target": label}) + "\n" for a, label in rows))
    found = read_held_out([str(path)], NUMBERS, calibration_rows=0)
    assert found.label == "target"
    assert found.rows.columns["a"].tolist() == [a for a, _ in rows]
    assert found.rows.labels.tolist() == [label for _, label in rows]


@pytest.mark.parametrize("name", ["{}", "label={}"])
def test_images_are_labelled_by_their_folders(tmp_path: Path, name: str) -> None:
    for label in ("cat", "dog"):
        folder = tmp_path / name.format(label)
        folder.mkdir()
        for shade in (10, 200):
            Image.new("L", (4, 4), shade).save(folder / f"{shade}.png")
    found = read_held_out([str(tmp_path)], PICTURES, calibration_rows=0)
    assert found.rows.labels.tolist() == ["cat", "cat", "dog", "dog"]
    assert all(content.startswith(b"\x89PNG") for content in found.rows.columns["image"].tolist())


def test_images_of_one_folder_have_no_labels(tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(InvalidInput, match=r"images have no labels: put them into folders named by class"):
        read_held_out([str(tmp_path)], PICTURES)


def test_without_labels_it_says_which_columns_there_are(tmp_path: Path) -> None:
    path = str(table(tmp_path / "t.parquet", label="priority"))
    with pytest.raises(InvalidInput, match=r"no column 'label' or 'target'; .* --label. Columns: a, priority"):
        read_held_out([path], NUMBERS)
    assert read_held_out([path], NUMBERS, "priority").label == "priority"
    with pytest.raises(InvalidInput, match=r"no column 'prioity'\. Did you mean 'priority'"):
        read_held_out([path], NUMBERS, "prioity")


def test_rows_that_cannot_be_used_are_left_out_and_told(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a,label\n1,x\nmany,x\n3,\n4,y\n")
    found = read_held_out([str(path)], NUMBERS, calibration_rows=0)
    assert found.rows.columns["a"].tolist() == [1, 4]
    assert found.rows.numbers.tolist() == [0, 3]
    assert "many" in found.unusable[1]
    assert found.unusable[2] == "no label in column 'label'"
    path.write_text("a,label\n1,\n2,\n")
    with pytest.raises(InvalidInput, match="no row of the held-out data can be used: no label"):
        read_held_out([str(path)], NUMBERS)


def test_more_calibration_rows_than_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="--calibration-rows 20: the data has 20 rows"):
        read_held_out([str(table(tmp_path / "t.parquet"))], NUMBERS, calibration_rows=20)


def test_the_fingerprint_is_of_the_values(tmp_path: Path) -> None:
    first = read_held_out([str(table(tmp_path / "a.parquet"))], NUMBERS).fingerprint
    assert read_held_out([str(table(tmp_path / "b.parquet"))], NUMBERS).fingerprint == first
    pq.write_table(pa.table({"a": [float(row) for row in range(20)], "label": [0] * 20}), tmp_path / "c.parquet")
    assert read_held_out([str(tmp_path / "c.parquet")], NUMBERS).fingerprint != first


def test_several_files_are_one_data_set(tmp_path: Path) -> None:
    table(tmp_path / "a.parquet", 5)
    table(tmp_path / "b.parquet", 5)
    found = read_held_out([str(tmp_path)], NUMBERS, calibration_rows=0)
    assert found.rows.numbers.tolist() == list(range(10))


def test_a_model_that_is_not_batched_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="batching: true"):
        read_held_out([str(table(tmp_path / "t.parquet"))], Signature(NUMBERS.inputs, NUMBERS.outputs, False))
