"""Rows from files, whatever they hold."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import pytest

from forwardpass.cli.example import tiny_image
from forwardpass.cli.sources import Format, Table, read_body, read_source
from forwardpass.errors import InvalidInput, NotFound


@pytest.mark.parametrize(
    ("name", "content", "rows"),
    [
        ("a.json", b'{"instances": [1, 2]}', [1, 2]),
        ("a.json", b"[[1], [2]]", [[1], [2]]),
        ("a.json", b'{"amount": 3}', [{"amount": 3}]),
        ("a.csv", b'a,b\n1,"x, y"\n\n2,\n', Table(["a", "b"], [["1", "x, y"], ["2", ""]])),
        ("a.csv", "\ufeffé\n1\n".encode(), Table(["é"], [["1"]])),
        ("a.txt", "one\n\n två\r\n".encode(), ["one", " två"]),
        ("a.PNG", b"anything", [b"anything"]),
        ("a.bin", tiny_image(), [tiny_image()]),
        ("a.bin", b'  {"instances": []}', []),
        ("a.bin", b"words", ["words"]),
    ],
)
def test_files(tmp_path: Path, name: str, content: bytes, rows: object) -> None:
    (tmp_path / name).write_bytes(content)
    source = read_source(str(tmp_path / name))
    assert source.rows == rows
    assert source.name == str(tmp_path / name)


def test_a_given_format_wins_over_the_suffix(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("[1]")
    assert read_source(str(tmp_path / "a.txt"), Format.JSON).rows == [1]


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"[7]")))
    assert read_source("-").rows == [7]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", b"{", "a.json: not valid JSON"),
        ("a.json", b"3", "expected"),
        ("a.json", b'{"instances": 3}', "expected"),
        ("a.csv", b"", "is empty"),
        ("a.csv", b'a\n"x', "not valid CSV"),
        ("a.txt", b"a\xff", "byte 1"),
    ],
)
def test_content_that_is_wrong(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidInput, match=message):
        read_source(str(tmp_path / name))


def test_no_such_file() -> None:
    with pytest.raises(NotFound, match=r"nowhere\.png: cannot be read: No such file"):
        read_source("nowhere.png")


def test_a_body_is_named_in_messages() -> None:
    with pytest.raises(InvalidInput, match="--body: not valid JSON"):
        read_body("nope", "--body")
