"""Where records begin and end, in whatever blocks a file is read."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.jobs.formats.whole import STORAGE, chunks_of, pieces_of

from forwardpass.errors import InvalidInput
from forwardpass.jobs.formats import Piece, lines
from forwardpass.jobs.formats.lines import Layout, read_fully, read_records, split

FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
TRICKY = st.text('a",\n\r é', max_size=40).map(lambda text: text.encode())


@contextmanager
def blocks_of(size: int) -> Iterator[None]:
    before, lines.BLOCK_BYTES = lines.BLOCK_BYTES, size
    try:
        yield
    finally:
        lines.BLOCK_BYTES = before


def split_all(data: bytes, delimiter: bytes | None) -> list[bytes]:
    starts, ends, _ = split(data, delimiter, final=True)
    return [data[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]


@FEW
@given(TRICKY)
def test_as_many_records_as_python_reads(data: bytes) -> None:
    text = io.StringIO(data.decode(), newline="")
    assert len(split_all(data, b",")) == len([row for row in csv.reader(text) if row])


@FEW
@given(TRICKY)
def test_without_a_delimiter_quotes_mean_nothing(data: bytes) -> None:
    expected = [line for line in data.replace(b"\r", b"\n").split(b"\n") if line]
    assert split_all(data, None) == expected


@FEW
@given(TRICKY, st.integers(1, 9), st.sampled_from([b",", None]))
def test_blocks_of_any_size_hold_the_same_records(
    tmp_path: Path, data: bytes, size: int, delimiter: bytes | None
) -> None:
    path = tmp_path / "x"
    path.write_bytes(data)
    with blocks_of(size):
        for end in (None, len(data)):
            blocks = list(read_records(STORAGE, str(path), Layout(0, delimiter), end))
            assert [record for block in blocks for record in block] == split_all(data, delimiter)
            places = [start + block.offset for block in blocks for start in block.starts.tolist()]
            assert [data[place] for place in places] == [record[0] for record in split_all(data, delimiter)]


@pytest.mark.parametrize(
    ("data", "records"),
    [
        (b'3.5" disk,1\n5" disk,2\n7",3\n', [b'3.5" disk,1', b'5" disk,2', b'7",3']),
        (b'a"b\n"x\ny"z"\nc', [b'a"b', b'"x\ny"z"', b"c"]),
        (b'"a""\n",b\n"",c\n', [b'"a""\n",b', b'"",c']),
        (b'x"\n"open\nand on\n', [b'x"', b'"open\nand on\n']),
        (b'"""\n""",1\r\n\r\n2', [b'"""\n""",1', b"2"]),
    ],
)
def test_quotes_within_values(data: bytes, records: list[bytes]) -> None:
    assert split_all(data, b",") == records


def test_a_quote_that_is_never_closed_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "LONGEST_RECORD", 5000)
    path = tmp_path / "x.csv"
    path.write_bytes(b'a,b\n1,2\n"3,4\n' + b"5,6\n" * 10_000)
    with blocks_of(1000), pytest.raises(InvalidInput, match=r"x.csv: the row at byte 8 is over .* is a quote not"):
        pieces_of(path, 10)


def test_blocks_do_not_depend_on_how_much_a_read_gives() -> None:
    class Trickle(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(3, size or 0))

    assert read_fully(Trickle(b"0123456789"), 8) == b"01234567"
    assert read_fully(Trickle(b"0123456789"), 99) == b"0123456789"
    assert read_fully(Trickle(b""), 9) == b""


@pytest.mark.parametrize("suffix", ["txt", "jsonl", "csv"])
def test_reading_a_piece_reads_its_bytes_only(tmp_path: Path, suffix: str) -> None:
    """Bytes before and after a piece are overwritten: nobody sees it."""
    path = tmp_path / f"x.{suffix}"
    row = {"txt": b"line\n", "jsonl": b'{"a":1}\n', "csv": b"1,2\n"}[suffix]
    path.write_bytes((b"a,b\n" if suffix == "csv" else b"") + row * 100)
    piece: Piece = pieces_of(path, 30)[1]
    data = bytearray(path.read_bytes())
    header = 4 if suffix == "csv" else 0
    data[header : piece.offset] = b"#" * (piece.offset - header)
    data[piece.end :] = b"#" * (len(data) - piece.end)
    before = chunks_of(path, piece, 100)
    path.write_bytes(data)
    assert chunks_of(path, piece, 100)[0].numbers == before[0].numbers == list(range(30, 60))
