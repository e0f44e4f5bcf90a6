"""The plan: parts in the order of the input, of even size; and what may not change before a job ends."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwardpass.errors import InvalidInput
from forwardpass.jobs.dataset import find_data_set
from forwardpass.jobs.formats.base import Piece
from forwardpass.jobs.plan import files_apart, group, newly_mended, plan_parts, require_same, with_mended


@given(sizes=st.lists(st.integers(0, 20), max_size=20), most=st.integers(1, 30))
@settings(deadline=None)
def test_groups_hold_every_piece_once_in_order(sizes: list[int], most: int) -> None:
    pieces = [Piece(f"{at}", 0, size) for at, size in enumerate(sizes)]
    groups = list(group(pieces, most))
    assert [piece for parts in groups for piece in parts] == pieces
    for parts in groups:
        assert len(parts) == 1 or sum(piece.rows for piece in parts) <= most


def test_large_files_are_cut_and_small_ones_joined(tmp_path: Path) -> None:
    for name, rows in {"a": 10, "b": 250, "c": 5, "d": 5}.items():
        pq.write_table(pa.table({"x": range(rows)}), tmp_path / f"{name}.parquet")
    parts = plan_parts(find_data_set([str(tmp_path)], None, ""), 100)
    assert [part.rows for part in parts] == [93, 83, 94]
    assert [part.number for part in parts] == [0, 1, 2]
    assert parts == plan_parts(find_data_set([str(tmp_path)], None, ""), 100)


def test_a_file_apart_is_one_part_also_without_rows(tmp_path: Path) -> None:
    for name, rows in {"a": 10, "b": 250, "c": 5, "d": 0, "e": 5, "f": 5}.items():
        pq.write_table(pa.table({"x": pa.array(range(rows), pa.int64())}), tmp_path / f"{name}.parquet")
    apart = {str(tmp_path / f"{name}.parquet") for name in "bd"}
    parts = plan_parts(find_data_set([str(tmp_path)], None, ""), 100, apart)
    assert [(part.number, part.rows) for part in parts] == [(0, 10), (1, 250), (2, 5), (3, 0), (4, 10)]


def test_only_a_file_that_was_unreadable_may_change() -> None:
    before = {"input a": "1", "input b": "2, unreadable", "input c": "3, mended"}
    assert with_mended(before, {"input a": "1", "input b": "2", "input c": "3"}) == {
        "input a": "1",
        "input b": "2, mended",
        "input c": "3, mended",
    }
    assert newly_mended(before, {"input a": "9", "input b": "2, unreadable", "input c": "9"}) == {}
    for now in ("2", "9", "9, unreadable"):
        facts = with_mended(before, {"input a": "1", "input b": now, "input c": "3"})
        assert list(newly_mended(before, facts)) == ["input b"]
    again = with_mended(before, {"input a": "1", "input b": "2, unreadable", "input c": "3, unreadable"})
    assert again["input c"] == "3, unreadable"  # and so is refused
    assert files_apart(before) == {"b", "c"}


def test_files_in_unlike_folders_are_no_data_set(tmp_path: Path) -> None:
    for name in ("day=1/a", "hour=2/a"):
        (tmp_path / name).parent.mkdir()
        pq.write_table(pa.table({"x": [1]}), tmp_path / f"{name}.parquet")
    with pytest.raises(InvalidInput, match=r"lies in folders \['hour'\] where .* lies in \['day'\]"):
        find_data_set([str(tmp_path)], None, "")


def test_what_changed_is_named() -> None:
    before = {"input a": "1", "input b": "1", "model file m": "1", "--where": ""}
    require_same(before, dict(before), "out")
    with pytest.raises(InvalidInput) as refused:
        require_same(before, {"input a": "2", "model file m": "1", "--where": "", "input c": "1"}, "out")
    said = "out was begun from something else: input a has changed, input b is gone, input c is new."
    assert refused.value.message.startswith(said)
