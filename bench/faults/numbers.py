"""A model that gives back the number it is sent, at a known cost, and requests that each carry their own.

An answer that went to the wrong caller holds the wrong number. The model counts the rows that it
really runs in a file beside it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tests import artifacts

from bench.processes import Server
from forwardpass.loadtest import HttpTarget, http_request

REQUESTS = 20_000  # numbers in use; float32 holds whole numbers to 16 million
STEPS = """\
import os
from pathlib import Path

import numpy as np

from forwardpass import step

FILE = os.open(Path(__file__).with_name("rows"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)


@step(reads=["x"], writes=["x"])
def count_rows(columns):
    os.write(FILE, np.uint32(len(columns["x"])).tobytes())
    return {"x": columns["x"]}
"""
YAML = """\
warm_up: false
preprocess:
  - {step: count_rows}
limits: {max_batch_size: %d, timeout: %g}
"""
_DATA = re.compile(rb'"data":\[\[*([-0-9.e+]+)')


@dataclass(frozen=True)
class Numbers:
    """The model's folder; ``name`` is the folder's."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    def rows_run(self) -> int:
        """Rows that the model has run so far, in all its workers."""
        file = self.folder / "rows"
        return int(np.fromfile(file, np.uint32).sum()) if file.is_file() else 0


def build(folder: Path, loops: int = 15, most_rows: int = 4, timeout: float = 30.0) -> Numbers:
    """A model of about ``loops`` milliseconds for a batch of any size, on one core."""
    artifacts.slow(folder / "model.onnx", loops)
    (folder / "steps.py").write_text(STEPS)
    (folder / "model.yaml").write_text(YAML % (most_rows, timeout))
    (folder / "rows").unlink(missing_ok=True)
    return Numbers(folder)


def target(server: Server, name: str, *, close: bool = False, count: int = REQUESTS) -> HttpTarget:
    """Requests of one row each, all different. ``close``: every one on a connection of its own."""
    url = f"http://127.0.0.1:{server.port}/v2/models/{name}/infer"
    headers = {"content-type": "application/json", **({"connection": "close"} if close else {})}
    return HttpTarget("v2-json", [http_request(url, _body(number), headers) for number in range(count)], url=url)


def right(index: int, status: int, headers: dict[str, str], body: bytes) -> bool:  # noqa: ARG001
    """Whether an answer is the one to request ``index``."""
    found = _DATA.search(body)
    return found is not None and float(found[1]) == index


def _body(number: int) -> bytes:
    tensor = {"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [number]}
    return json.dumps({"inputs": [tensor]}).encode()
