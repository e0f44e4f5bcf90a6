"""What is served, the same for every peer: the model, its preprocessing, the limits of a batch.

``PEER_KIND`` says which: ``tiny`` (rows of 64 numbers), ``binary`` (the same, as little-endian float32 bytes),
``text`` (sentences) or ``image`` (JPEG bytes). Preprocessing is that of ``bench.raw``. Knows no server.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bench.raw import RawImage, RawText, open_session

KIND = os.environ["PEER_KIND"]
PORT = int(os.environ["PEER_PORT"])
MAX_BATCH_SIZE = int(os.environ["PEER_MAX_BATCH_SIZE"])
ROW: Any = str if KIND == "text" else list[float]  # of a JSON body, for libraries that read annotations
RAW_BODY = KIND in ("binary", "image")  # the request's body is the row itself, not JSON


class Model(Protocol):
    def run(self, batch: Any) -> NDArray[Any]:
        """One row each in, [rows, outputs] float32 out."""


class Tiny:
    """Rows of 64 numbers to [rows, 10]."""

    def __init__(self, folder: Path) -> None:
        self._session = open_session(folder / "model.onnx")

    def run(self, batch: Sequence[Any]) -> NDArray[Any]:
        (y,) = self._session.run(None, {"x": np.asarray(batch, dtype=np.float32)})
        return np.asarray(y)


def load_model() -> Model:
    """With one thread: every peer gets one core."""
    folder = Path(os.environ["PEER_MODELS"])
    if KIND == "text":
        return RawText(folder / "text")
    return RawImage(folder / "image") if KIND == "image" else Tiny(folder / "tiny")


def floats(body: bytes) -> NDArray[Any]:
    """A row of little-endian float32."""
    return np.frombuffer(body, dtype="<f4")


def from_body(body: bytes) -> Any:
    """A row from a body that is not JSON."""
    return body if KIND == "image" else floats(body)
