"""A model's own ``steps.py``: found, given its parameters, and held to the contract."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
from tests.pipeline.examples import column

from forwardpass.errors import BackendFailed, InvalidModel, InvalidRows
from forwardpass.pipeline import Pipeline, create_pipeline
from forwardpass.types import DType, TensorSpec

TEXT = TensorSpec("text", DType.BYTES, (None,))
COUNT_WORDS = """
    import numpy as np
    from forwardpass.errors import InvalidRows
    from forwardpass.pipeline import step

    @step(reads=["text"], writes={"words": "INT64"})
    def count_words(columns, *, least: int = 0):
        counts = [len(text.split()) for text in columns["text"]]
        wrong = {row: "has no word" for row, count in enumerate(counts) if count == 0}
        if wrong:
            raise InvalidRows(wrong)
        return {"words": np.array([max(least, count) for count in counts], dtype=np.int64)}
"""


def pipeline(folder: Path, source: str, *entries: dict[str, Any]) -> Pipeline:
    (folder / "steps.py").write_text(dedent(source), encoding="utf-8")
    return create_pipeline(entries, [TEXT], folder, "preprocess")


def test_a_function_is_a_step_with_parameters(folder: Path) -> None:
    steps = pipeline(folder, COUNT_WORDS, {"step": "count_words", "least": 2})
    assert steps.columns["words"] == TensorSpec("words", DType.INT64, (None,))
    assert steps.run({"text": column("a b c", "a")})["words"].tolist() == [3, 2]


def test_it_may_refuse_rows(folder: Path) -> None:
    with pytest.raises(InvalidRows) as caught:
        pipeline(folder, COUNT_WORDS, {"step": "count_words"}).run({"text": column("a", " ")})
    assert caught.value.rows == {1: "has no word"}


def test_its_parameters_are_checked(folder: Path) -> None:
    with pytest.raises(InvalidModel, match=r"unknown key 'leest'. Did you mean 'least'\?"):
        pipeline(folder, COUNT_WORDS, {"step": "count_words", "leest": 2})
    with pytest.raises(InvalidModel, match="int"):
        pipeline(folder, COUNT_WORDS, {"step": "count_words", "least": "two"})


def test_its_name_is_suggested(folder: Path) -> None:
    with pytest.raises(InvalidModel, match=r"preprocess 1: unknown step 'count_word'. Did you mean 'count_words'\?"):
        pipeline(folder, COUNT_WORDS, {"step": "count_word"})


def test_a_wrong_number_of_rows_never_reaches_a_caller(folder: Path) -> None:
    source = COUNT_WORDS.replace("for count in counts]", "for count in counts[1:]]")
    with pytest.raises(BackendFailed, match="'count_words' wrote 1 rows to 'words' where 2 came in"):
        pipeline(folder, source, {"step": "count_words"}).run({"text": column("a", "b")})


def test_a_step_must_return_columns(folder: Path) -> None:
    source = """
        from forwardpass.pipeline import step

        @step(reads=["text"], writes=["text"])
        def same(columns):
            return columns["text"]
    """
    with pytest.raises(BackendFailed, match="'same' returned ndarray"):
        pipeline(folder, source, {"step": "same"}).run({"text": column("a")})


def test_what_the_file_raises_is_one_message(folder: Path) -> None:
    with pytest.raises(InvalidModel, match=r"steps.py: cannot be imported: ZeroDivisionError: division by zero"):
        pipeline(folder, "1 / 0")


@pytest.mark.parametrize(
    ("declared", "shape"),
    [("FP32[3,?]", (None, 3, None)), ("FP32", (None,)), ("FP32[]", (None,))],
)
def test_types_are_declared_in_short(folder: Path, declared: str, shape: tuple[int | None, ...]) -> None:
    steps = pipeline(folder, COUNT_WORDS.replace('"INT64"', f'"{declared}"'), {"step": "count_words"})
    assert steps.columns["words"] == TensorSpec("words", DType.FP32, shape)


def test_a_type_that_is_none_is_refused(folder: Path) -> None:
    with pytest.raises(InvalidModel, match="'FLOAT' is no type"):
        pipeline(folder, COUNT_WORDS.replace('"INT64"', '"FLOAT"'), {"step": "count_words"})


def test_without_the_file_there_are_no_own_steps(folder: Path) -> None:
    assert not create_pipeline([], [TEXT], folder, "preprocess")


def test_its_own_step_wins_over_a_built_in_one(folder: Path) -> None:
    source = """
        from forwardpass.pipeline import step

        @step(reads=["text"], writes=["text"])
        def normalise_text(columns):
            return {"text": columns["text"][::-1]}
    """
    written = pipeline(folder, source, {"step": "normalise_text"}).run({"text": column("a", "b")})
    assert np.array_equal(written["text"], column("b", "a"))
