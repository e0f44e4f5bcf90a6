"""(a) The same work with no server: decode or tokenise, resize, normalise, forward pass, in a plain loop.

Written as a careful user would write it for one core: one process, one thread, batches. Run as
``python -m bench.raw KIND MODELS``, it prints ``ready`` and then answers each line
``BATCH SECONDS`` on its input with one line of JSON, so that all processes can start a round together.
"""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before the import; children inherit it

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image, ImageOps
from tokenizers import Tokenizer

from bench.texts import mixed_texts, sentences

Array = NDArray[Any]
MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)
STD = np.array([0.229, 0.224, 0.225], dtype=np.float32)
FACTOR, OFFSET = (1 / 255 / STD)[:, None, None], (MEAN / STD)[:, None, None]  # one pass each, channels first


def open_session(artifact: Path) -> Any:
    """A session that computes with one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(artifact), options, providers=["CPUExecutionProvider"])


class RawText:
    """Sentences to embeddings [rows, 384]."""

    def __init__(self, folder: Path) -> None:
        self.inputs: list[Any] = sentences(64)
        self._session = open_session(folder / "model.onnx")
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_padding(pad_id=0, pad_token="[PAD]")
        self._tokenizer.enable_truncation(128)

    def run(self, batch: list[str]) -> Array:
        encodings = self._tokenizer.encode_batch_fast(batch)
        ids = np.array([encoding.ids for encoding in encodings], dtype=np.int64)
        mask = np.array([encoding.attention_mask for encoding in encodings], dtype=np.int64)
        (embedding,) = self._session.run(None, {"input_ids": ids, "attention_mask": mask})
        return np.asarray(embedding)


class RawSorted(RawText):
    """The same for texts of 4 to 128 tokens, sorted by length, so that there is next to no padding."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.inputs = sorted(mixed_texts(), key=lambda text: len(self._tokenizer.encode(text).ids))


class RawImage:
    """JPEG bytes to scores [rows, 1000]."""

    def __init__(self, folder: Path) -> None:
        self.inputs: list[Any] = [(folder.parents[1] / "requests" / "image.jpg").read_bytes()]
        self._session = open_session(folder / "model.onnx")

    def run(self, batch: list[bytes]) -> Array:
        pixels = np.stack([_prepare_image(data) for data in batch])
        (scores,) = self._session.run(None, {"image": pixels})
        return np.asarray(scores)


def _prepare_image(data: bytes, size: int = 224) -> Array:
    """JPEG bytes -> [3, size, size]: shorter side to ``size``, centre crop, ImageNet's mean and deviation."""
    with Image.open(io.BytesIO(data)) as image:
        rgb = image.convert("RGB")
    fitted = ImageOps.fit(rgb, (size, size), Image.Resampling.BILINEAR)
    pixels = np.asarray(fitted).transpose(2, 0, 1).astype(np.float32, order="C")
    pixels *= FACTOR
    pixels -= OFFSET
    return pixels


KINDS: dict[str, type[RawText] | type[RawImage]] = {"text": RawText, "sorted": RawSorted, "image": RawImage}
FOLDERS = {"sorted": "text"}


def timed(work: RawText | RawImage, batch: int, seconds: float) -> dict[str, float]:
    """Whole batches for at least ``seconds``, after one that does not count."""
    rows = work.inputs * (batch // len(work.inputs) + 2)
    work.run(rows[:batch])
    done, started, used = 0, perf_counter(), process_time()
    while perf_counter() - started < seconds:
        first = done % len(work.inputs)
        work.run(rows[first : first + batch])
        done += batch
    return {"rows": done, "seconds": perf_counter() - started, "cpu": process_time() - used}


def main() -> None:
    kind, models = sys.argv[1:]
    work = KINDS[kind](Path(models) / FOLDERS.get(kind, kind))
    print("ready", flush=True)
    for line in sys.stdin:
        batch, seconds = line.split()
        print(json.dumps(timed(work, int(batch), float(seconds))), flush=True)


if __name__ == "__main__":
    main()
