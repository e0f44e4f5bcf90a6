"""A search's ledger: taken up where it was, also after a torn line, and refused where something has changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from forwardpass.errors import InvalidInput
from forwardpass.optimize.bootstrap import Interval
from forwardpass.optimize.ledger import Ledger
from forwardpass.optimize.results import Entry, Figures, Gain, Quality, WorstRow

FACTS = {"model file model.onnx": "abc", "--metric": "accuracy"}
QUALITY = Quality(0.9, Interval(0.0, None, 0.1), 0.99, (WorstRow(3, "a", "a", "b", 1.0, "x: 1"),))
ENTRY = Entry("a", "A", True, "", "", QUALITY, Figures(1, 2, 3, 4, 5, 6, 7, 8, 9), {"size": Gain(1, 1, 1)}, 3, 1.5)


def test_entries_come_back_as_they_were(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "work" / "ledger.jsonl")
    ledger.begin(FACTS)
    ledger.add(ENTRY)
    again = Ledger(tmp_path / "work" / "ledger.jsonl")
    again.resume(FACTS)
    assert again.entries == [ENTRY]


def test_a_line_that_was_cut_short_was_not_written(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path)
    ledger.begin(FACTS)
    ledger.add(ENTRY)
    whole = path.read_bytes()
    path.write_bytes(whole + whole.splitlines()[1][:40])
    again = Ledger(path)
    again.resume(FACTS)
    again.add(ENTRY)
    last = Ledger(path)
    last.resume(FACTS)
    assert last.entries == [ENTRY, ENTRY]


def test_what_has_changed_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    Ledger(path).begin(FACTS)
    with pytest.raises(InvalidInput, match=r"model file model\.onnx has changed"):
        Ledger(path).resume(FACTS | {"model file model.onnx": "other"})
    with pytest.raises(InvalidInput, match="--metric has changed"):
        Ledger(path).resume(FACTS | {"--metric": "f1"})


def test_a_broken_line_in_the_middle_is_not_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    Ledger(path).begin(FACTS)
    path.write_bytes(path.read_bytes() + b"{broken\n{}\n")
    with pytest.raises(InvalidInput, match="line 2 is no line of a ledger"):
        Ledger(path).resume(FACTS)


def test_where_there_is_none_it_begins(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.resume(FACTS)
    assert ledger.entries == []
    assert (tmp_path / "ledger.jsonl").is_file()
