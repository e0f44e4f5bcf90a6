"""The benchmark's models run under ONNX Runtime and are of the shapes that the page states."""

from __future__ import annotations

import io
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from bench import graphs, models, raw, texts


def parameters(model: onnx.ModelProto) -> int:
    return sum(int(np.prod(weight.dims)) for weight in model.graph.initializer)


def session(tmp_path: Path, model: onnx.ModelProto) -> Any:
    onnx.save(model, tmp_path / "model.onnx")
    return raw.open_session(tmp_path / "model.onnx")


def test_tiny_network_runs_batches(tmp_path: Path) -> None:
    runs = session(tmp_path, graphs.tiny_network())
    x = np.random.default_rng(0).standard_normal((3, 64)).astype(np.float32)
    (together,) = runs.run(None, {"x": x})
    (alone,) = runs.run(None, {"x": x[1:2]})
    assert together.shape == (3, 10)
    np.testing.assert_allclose(together[1:2], alone, rtol=1e-4, atol=1e-5)


def test_text_encoder_ignores_padding(tmp_path: Path) -> None:
    runs = session(tmp_path, graphs.text_encoder(layers=2, vocabulary=100))
    ids = np.array([[2, 17, 5, 0, 0], [2, 9, 8, 7, 3]], dtype=np.int64)
    mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], dtype=np.int64)
    (padded,) = runs.run(None, {"input_ids": ids, "attention_mask": mask})
    (alone,) = runs.run(None, {"input_ids": ids[:1, :3], "attention_mask": mask[:1, :3]})
    assert padded.shape == (2, 384)
    np.testing.assert_allclose(padded[0], alone[0], rtol=1e-3, atol=1e-4)
    assert np.abs(padded[0] - padded[1]).max() > 0.1  # it does look at its input


def test_text_encoder_has_the_size_of_minilm_l6() -> None:
    assert parameters(graphs.text_encoder()) == pytest.approx(22.7e6, rel=0.02)


def test_image_network_has_the_size_of_resnet_18(tmp_path: Path) -> None:
    model = graphs.image_network()
    assert parameters(model) == pytest.approx(11.7e6, rel=0.01)
    image = np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype(np.float32)
    (scores,) = session(tmp_path, model).run(None, {"image": image})
    assert scores.shape == (1, 1000)
    assert 0.01 < np.abs(scores).max() < 1e4


def test_sentences_differ_and_have_about_28_tokens() -> None:
    tokenizer = texts.train_tokenizer()
    sentences = texts.sentences(64)
    lengths = [len(encoding.ids) for encoding in tokenizer.encode_batch(sentences)]
    assert len(set(texts.sentences(256))) == 256
    assert 27 <= statistics.mean(lengths) <= 29
    assert min(lengths) < max(lengths)
    assert tokenizer.token_to_id("[UNK]") not in tokenizer.encode(sentences[0]).ids


def test_photograph_is_about_100_kilobytes() -> None:
    data = models.photograph()
    assert Image.open(io.BytesIO(data)).size == (640, 480)
    assert 90_000 < len(data) < 110_000
    assert data == models.photograph()


def test_binary_request_holds_the_same_numbers() -> None:
    header, tensor = models.tiny_binary(models.tiny_row())
    assert f'"binary_data_size":{len(tensor)}'.encode() in header
    np.testing.assert_allclose(np.frombuffer(tensor, "<f4"), models.tiny_row(), rtol=1e-6)


def test_the_plain_loop_counts_whole_batches(tmp_path: Path) -> None:
    class Counting(raw.RawText):
        def __init__(self) -> None:
            self.inputs = ["a", "b", "c"]
            self.seen: list[list[str]] = []

        def run(self, batch: list[str]) -> Any:
            self.seen.append(batch)
            return np.zeros(len(batch))

    work = Counting()
    result = raw.timed(work, batch=2, seconds=0.01)
    assert result["rows"] == 2 * (len(work.seen) - 1)  # the first one does not count
    assert work.seen[1:4] == [["a", "b"], ["c", "a"], ["b", "c"]]
    assert result["seconds"] >= 0.01
