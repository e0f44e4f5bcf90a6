"""What is sent to each model and what must come back: V2 requests of one or several rows as raw tensors.

The expected answers are ONNX Runtime's, one sample at a time and with no server. Knows no
connections and no LoadGen.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from bench.texts import mixed_texts, sentences

FLOAT = 4  # bytes
MODELS = {"text": "text", "mixed": "text", "image": "image", "tiny": "tiny"}  # which model gets these samples


class BadAnswer(Exception):
    """An answer that is not of the shape asked for."""


@dataclass(frozen=True)
class Samples:
    """Rows for one model, as they stand in a binary tensor, and the floats of one row of its answer."""

    model: str
    name: str
    datatype: str
    row_shape: tuple[int, ...]
    rows: tuple[bytes, ...]
    width: int
    inputs: tuple[Any, ...]  # the same rows, as ONNX Runtime's own loop takes them

    @property
    def path(self) -> str:
        return f"/v2/models/{self.model}/infer"

    @cached_property
    def _single(self) -> list[bytes]:
        return [self._encode([index]) for index in range(len(self.rows))]

    def request(self, indices: Sequence[int]) -> bytes:
        """The bytes of one HTTP request with these samples as its rows."""
        return self._single[indices[0]] if len(indices) == 1 else self._encode(indices)

    def _encode(self, indices: Sequence[int]) -> bytes:
        tensor = b"".join([self.rows[index] for index in indices])
        given: dict[str, Any] = {"name": self.name, "shape": [len(indices), *self.row_shape], "datatype": self.datatype}
        given["parameters"] = {"binary_data_size": len(tensor)}
        header = json.dumps({"inputs": [given], "parameters": {"binary_data_output": True}}).encode()
        head = (
            f"POST {self.path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/octet-stream\r\n"
            f"inference-header-content-length: {len(header)}\r\ncontent-length: {len(header) + len(tensor)}\r\n\r\n"
        )
        return head.encode() + header + tensor

    def answer(self, head: bytes, body: bytes, count: int) -> list[bytes]:
        """The floats of each of ``count`` rows. Raises ``BadAnswer``."""
        at = head.lower().find(b"\r\ninference-header-content-length:")
        if at < 0:
            raise BadAnswer("an answer without binary data")
        header_length = int(head[at + 34 :].split(b"\r\n", 1)[0])
        size = self.width * FLOAT
        if len(body) - header_length != count * size:
            raise BadAnswer(f"{len(body) - header_length} bytes of data, expected {count} rows of {size}")
        return [body[start : start + size] for start in range(header_length, len(body), size)]


def create_samples(kind: str, work: Path) -> Samples:
    """``text`` (about 28 tokens each), ``mixed`` (4 to 128 tokens), ``image`` or ``tiny``."""
    if kind in ("text", "mixed"):
        texts = tuple(sentences(64) if kind == "text" else mixed_texts())
        return Samples("text", "text", "BYTES", (), _elements(text.encode() for text in texts), 384, texts)  # fmt: skip
    if kind == "image":
        images = photographs((work / "requests" / "image.jpg").read_bytes())
        return Samples("image", "image", "BYTES", (), _elements(images), 1000, images)
    rows = tiny_rows(64)
    packed = tuple(struct.pack("<64f", *row) for row in rows)
    return Samples("tiny", "x", "FP32", (64,), packed, 10, rows)


def expected(samples: Samples, work: Path, count: int) -> list[list[float]]:
    """ONNX Runtime's answers to the first ``count`` samples, each run by itself."""
    import numpy as np

    from bench.raw import RawImage, RawText, open_session

    folder = work / "models" / samples.model
    some = samples.inputs[:count]
    if samples.model == "tiny":
        session = open_session(folder / "model.onnx")
        return [session.run(None, {"x": np.array([row], dtype=np.float32)})[0][0].tolist() for row in some]
    if samples.model == "text":
        encoder = RawText(folder)
        return [encoder.run([text])[0].tolist() for text in some]
    network = RawImage(folder)
    return [network.run([image])[0].tolist() for image in some]


def photographs(jpeg: bytes) -> tuple[bytes, ...]:
    """The photograph and its mirror images, so that no two answers are the same."""
    from PIL import Image

    found = [jpeg]
    turns = (Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.FLIP_TOP_BOTTOM, Image.Transpose.ROTATE_180)
    with Image.open(io.BytesIO(jpeg)) as image:
        for turn in turns:
            data = io.BytesIO()
            image.transpose(turn).save(data, "JPEG", quality=88)
            found.append(data.getvalue())
    return tuple(found)


def tiny_rows(count: int) -> tuple[tuple[float, ...], ...]:
    import numpy as np

    rows = np.random.default_rng(5).standard_normal((count, 64)).astype(np.float32)
    return tuple(tuple(row.tolist()) for row in rows)


def _elements(data: Any) -> tuple[bytes, ...]:
    """Elements of a ``BYTES`` tensor: a length and that many bytes."""
    return tuple(struct.pack("<I", len(one)) + one for one in data)
