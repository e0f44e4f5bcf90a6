"""The docstring encoder: whose texts are learnt and judged, what is collected, and what is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import forwardpass

torch = pytest.importorskip("torch")

from examples.optimize import text  # noqa: E402  # it imports torch
from examples.training.task_priority import train_tokenizer  # noqa: E402

ROWS = [("Return the eigenvalues of a symmetric matrix.", "numerics"), ("Parse the header of a request.", "web")] * 4


def test_no_package_is_both_learnt_and_judged() -> None:
    learnt, judged = ([name for both in text.TOPICS.values() for name in both[place].split()] for place in (0, 1))
    assert len(set(learnt + judged)) == len(learnt + judged)
    assert 6 <= len(text.LABELS) <= 8


def test_docstrings_are_read_without_importing(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text(f'"""{"module " * 10}"""\nraise SystemExit\ndef f():\n    """Short."""\n', encoding="utf-8")
    assert list(text.docstrings(file)) == [" ".join(["module"] * 10)]


def test_a_file_that_is_no_python_gives_none(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text("def", encoding="utf-8")
    assert list(text.docstrings(file)) == []


def test_a_text_known_from_training_is_not_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "TOPICS", {"terminal": ("ast", "turtle")})
    known: set[str] = set()
    learnt = text.collect("train", known)
    assert learnt
    judged = text.collect("held-out", known)
    assert len(judged) > 50
    assert not {row[0].lower() for row in learnt} & {row[0].lower() for row in judged}
    assert text.collect("held-out", known) == []


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    text.write_rows(tmp_path / "rows.csv", ROWS)
    assert text.read_rows(tmp_path / "rows.csv") == ROWS


def test_the_exported_model_answers_as_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "MODEL", tmp_path / "model")
    tokenizer = train_tokenizer([row[0] for row in ROWS])
    inputs, labels = text.encode(tokenizer, ROWS)
    assert inputs["input_ids"].shape == (len(ROWS), text.TOKENS)
    network = text.Encoder(tokenizer.get_vocab_size(), width=16, layers=1, heads=2)
    text.train(network, inputs, labels, seconds=20)
    text.write_model(network, tokenizer, inputs)
    model = forwardpass.load(tmp_path / "model", threads=1)
    answer = model.predict({"text": [row[0] for row in ROWS]})
    model.close()
    with torch.no_grad():
        expected = network(*(torch.from_numpy(array) for array in inputs.values())).softmax(-1).numpy()
    np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-3)
    assert set(answer["label"]) <= set(text.LABELS)


def test_the_student_answers_in_the_shape_of_the_encoder() -> None:
    ids, mask = torch.ones(3, 5, dtype=torch.int64), torch.ones(3, 5, dtype=torch.int64)
    assert text.Student(10)(ids, mask).shape == text.Encoder(10, 16, 1, 2)(ids, mask).shape
