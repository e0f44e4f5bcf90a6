"""Which format files are in, and outputs are written in."""

from __future__ import annotations

import pytest

from forwardpass.errors import InvalidInput
from forwardpass.jobs.formats import _CLASSES, create_format, is_one_file, output_format


@pytest.mark.parametrize("name", _CLASSES)
def test_every_format_is_told_by_its_suffixes(name: str) -> None:
    form = create_format([], name)
    assert form.name == name
    for suffix in form.suffixes:
        assert create_format([f"s3://bucket/a.b/x{suffix}", f"Y{suffix.upper()}"]).name == name


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["a.csv.gz", "b.tsv.zst", "c.csv"], "csv"),
        (["a.jsonl.GZ"], "jsonl"),
        (["a.txt.zst"], "text"),
        (["a.png", "b.jpeg", "c.TIFF"], "images"),
    ],
)
def test_told_by_names(names: list[str], told: str) -> None:
    assert create_format(names).name == told


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ([], "no input files"),
        (["a.csv", "b.csv", "c.parquet"], "a.csv is csv, but c.parquet is parquet: name files of one format"),
        (["a.dat"], r"a.dat: its name does not tell its format; let it end in one of \.parquet, "),
        (["a.dat"], r"`forwardpass run` by --format parquet\|arrow\|csv"),
        (["data.parquet.gz"], "data.parquet.gz: its name does not tell"),
        (["a"], "a: its name does not tell"),
    ],
)
def test_not_told_by_names(names: list[str], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        create_format(names)


def test_a_given_format_wins_and_must_be_known() -> None:
    assert create_format(["a.csv", "b.dat"], "text").name == "text"
    with pytest.raises(InvalidInput, match=r"--format: unknown format 'parket'\. Did you mean 'parquet'"):
        create_format(["a.parquet"], "parket")


@pytest.mark.parametrize(
    ("name", "told", "file"),
    [
        ("out", "parquet", False),
        ("out/", "parquet", False),
        ("s3://bucket/out", "parquet", False),
        ("out.parquet", "parquet", True),
        ("out.feather/", "arrow", False),
        ("a/out.CSV", "csv", True),
        ("out.ndjson", "jsonl", True),
        ("scored.2026-11-22", "parquet", False),
        ("s3://bucket/out.v2", "parquet", False),
        ("by.day/out", "parquet", False),
        ("out.1", "parquet", False),
        ("out.", "parquet", False),
        (".hidden", "parquet", False),
        ("out.old/", "parquet", False),
        ("out.txt/", "parquet", False),
    ],
)
def test_output_by_suffix(name: str, told: str, file: bool) -> None:
    assert output_format(name) == told
    assert is_one_file(name) == file


@pytest.mark.parametrize(
    "name", ["out.xlsx", "out.txt", "out.png", "out.csv.gz", "out.tsv", "out.avro", "out.parqet", "out.old", "out.tsv/"]
)
def test_output_that_cannot_be_written(name: str) -> None:
    with pytest.raises(InvalidInput, match=rf"{name}: cannot write .*\.csv"):
        output_format(name)
