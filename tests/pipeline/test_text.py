"""Normal forms, tokenisation against the library's own padding, and tokenizer files that cannot be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.pipeline.examples import column, write_tokenizer

from forwardpass.errors import InvalidModel
from forwardpass.pipeline import create_step
from forwardpass.types import Columns


def run(step: str, folder: Path, columns: Columns, **parameters: Any) -> Columns:
    return create_step({"step": step, **parameters}, {}, "preprocess 1").open(folder)(columns)


@pytest.mark.parametrize(
    ("parameters", "text", "expected"),
    [
        ({}, " cafe\u0301 \n\t noir ", "caf\u00e9 noir"),
        ({"unicode": "NFKC", "lower": True}, "\uff21\ufb01", "afi"),
        ({"unicode": "none", "collapse": False, "strip": False}, " e\u0301 \n", " e\u0301 \n"),
        ({"collapse": False}, " a  b ", "a  b"),
        ({"strip": False}, "\n a \t b\n", " a b "),
        ({"strip": False}, "  ", " "),
    ],
)
def test_normal_forms(parameters: dict[str, Any], text: str, expected: str) -> None:
    assert run("normalise_text", Path(), {"text": column(text)}, **parameters)["text"][0] == expected


@given(st.text("aA \t\u00e9e\u0301\u0307\ufb01\u2003\n"))
def test_normalising_twice_changes_nothing_more(text: str) -> None:
    once = run("normalise_text", Path(), {"text": column(text)})
    assert run("normalise_text", Path(), once)["text"].tolist() == once["text"].tolist()


@given(st.lists(st.text("the reportislate now xyz"), min_size=1, max_size=6))
def test_tokens_and_padding_are_the_librarys(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    from tokenizers import Tokenizer

    folder = tmp_path_factory.getbasetemp()
    if not (folder / "tokenizer.json").exists():
        write_tokenizer(folder)
    reference = Tokenizer.from_file(str(folder / "tokenizer.json"))
    reference.enable_padding(pad_id=0)
    reference.enable_truncation(6)
    encodings = reference.encode_batch(texts)
    written = run("tokenise", folder, {"text": column(*texts)}, max_length=6, token_type_ids="types")
    assert written["input_ids"].tolist() == [item.ids for item in encodings]
    assert written["attention_mask"].tolist() == [item.attention_mask for item in encodings]
    assert written["types"].tolist() == [item.type_ids for item in encodings]


def test_a_fixed_length_pads_and_cuts(folder: Path) -> None:
    write_tokenizer(folder)
    written = run("tokenise", folder, {"text": column("the", "the report is late now")}, length=4)
    assert written["input_ids"].tolist() == [[2, 4, 3, 0], [2, 4, 5, 3]]
    assert written["attention_mask"].tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]


def test_the_second_text_has_a_type_of_its_own(folder: Path) -> None:
    write_tokenizer(folder)
    columns = {"text": column("the"), "other": column("report is")}
    written = run("tokenise", folder, columns, pair="other", token_type_ids="types")
    assert written["types"].tolist() == [[0, 0, 0, 1, 1, 1]]


def test_no_token_at_all_still_gives_one_of_padding(folder: Path) -> None:
    write_tokenizer(folder)
    written = run("tokenise", folder, {"text": column("")}, special_tokens=False)
    assert written["input_ids"].tolist() == [[0]]
    assert written["attention_mask"].tolist() == [[0]]


def test_tokens_are_counted(folder: Path) -> None:
    write_tokenizer(folder)
    counts = run("bag_of_tokens", folder, {"text": column("the report the", "unheard")})["text"]
    assert counts.dtype == np.float32
    assert counts.tolist() == [[0, 0, 0, 0, 2, 1, 0, 0, 0], [0, 1, 0, 0, 0, 0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"tokenizer": "tokeniser.json"}, "no file 'tokeniser.json'.*Did you mean 'tokenizer.json'"),
        ({"tokenizer": "../tokenizer.json"}, "outside the model's folder"),
        ({"tokenizer": "broken.json"}, "broken.json is no tokenizer file"),
        ({"max_length": 2}, "max_length 2 leaves no room beside 2 special tokens"),
        ({"max_length": 0}, "max_length is 0"),
        ({"max_length": 8, "length": 4}, "does not fit into length 4"),
        ({"pad_token": "<none>"}, "no token '<none>'"),
    ],
)
def test_what_cannot_be_used_is_refused_at_load(folder: Path, parameters: dict[str, Any], message: str) -> None:
    write_tokenizer(folder)
    (folder / "broken.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InvalidModel, match=message):
        run("tokenise", folder, {"text": column("the")}, **parameters)
