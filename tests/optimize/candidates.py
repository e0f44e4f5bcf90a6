"""A parent that is slow on purpose, labelled rows for it, and recipes that do all that recipes may do.

The parent is ``y = x @ weights(4, 3) + 1`` behind a step that sleeps, so that which of two models is faster does not
depend on the machine. Recipes are importable, as they are sent to a process of their own.
"""

from __future__ import annotations

import errno
import os
import time
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tests import artifacts

from forwardpass.optimize.recipe import Parent, Recipe, write_model

CLASSES, FEATURES = 3, 4
STEPS = """
    import os
    import time

    from forwardpass.pipeline import step

    @step(reads=["x"], writes=["x"])
    def wait(columns):
        time.sleep(DELAY)
        if BAD:
            BAD_ACTION
        return {"x": columns["x"]}
"""


def write_steps(folder: Path, delay: float, action: str = "") -> None:
    text = dedent(STEPS).replace("DELAY", str(delay)).replace("BAD_ACTION", action or "pass")
    (folder / "steps.py").write_text(text.replace("BAD", str(bool(action))), encoding="utf-8")


def parent(folder: Path, delay: float = 0.02) -> Path:
    artifacts.affine(folder / "model.onnx", inputs=FEATURES, outputs=CLASSES)
    (folder / "model.yaml").write_text("preprocess: [{step: wait}]\n", encoding="utf-8")
    write_steps(folder, delay)
    return folder


def held_out(path: Path, rows: int, wrong: int = 0) -> Path:
    """Rows that the parent answers rightly, but for the first ``wrong``."""
    x = np.random.default_rng(1).standard_normal((rows, FEATURES)).astype(np.float32)
    labels = (x @ artifacts.weights(FEATURES, CLASSES)).argmax(axis=1)
    labels[:wrong] = (labels[:wrong] + 1) % CLASSES
    pq.write_table(pa.table({"x": x.tolist(), "label": labels}), path)
    return path


@dataclass(frozen=True)
class _Named(Recipe):
    name: str
    delay: float = 0.0

    @property
    def title(self) -> str:  # type: ignore[override]
        return f"the {self.name} one"

    def unsuitable(self, parent: Parent) -> str:
        return ""

    def make(self, parent: Parent, folder: Path) -> None:
        write_model(parent, folder, parent.files.artifact)
        write_steps(folder, self.delay)


class Copy(_Named):
    """The same model, as slow as ``delay`` says."""


class Unsuited(_Named):
    def unsuitable(self, parent: Parent) -> str:
        return "it has no convolutions"


class Spoiled(_Named):
    """Other weights, no delay."""

    def make(self, parent: Parent, folder: Path) -> None:
        super().make(parent, folder)
        w = -artifacts.weights(FEATURES, CLASSES)
        content = (folder / "model.onnx").read_bytes()
        old = artifacts.weights(FEATURES, CLASSES).tobytes()
        assert old in content
        (folder / "model.onnx").write_bytes(content.replace(old, w.tobytes()))


class Raising(_Named):
    def make(self, parent: Parent, folder: Path) -> None:
        raise ValueError("the operator Frobnicate\nis not supported")


class Dying(_Named):
    def make(self, parent: Parent, folder: Path) -> None:
        os.abort()


class Endless(_Named):
    def make(self, parent: Parent, folder: Path) -> None:
        time.sleep(600)


class Full(_Named):
    def make(self, parent: Parent, folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


class Crashing(_Named):
    """A model that takes its process with it."""

    def make(self, parent: Parent, folder: Path) -> None:
        super().make(parent, folder)
        write_steps(folder, 0, "os.abort()")


class Hanging(_Named):
    def make(self, parent: Parent, folder: Path) -> None:
        super().make(parent, folder)
        write_steps(folder, 0, "time.sleep(600)")


class Engineless(_Named):
    """A backend that this machine lacks."""

    def make(self, parent: Parent, folder: Path) -> None:
        super().make(parent, folder)
        with (folder / "model.yaml").open("a") as file:
            file.write("backend: {name: onnxruntime-tensorrt, device: cuda}\n")


@dataclass(frozen=True)
class Counted(Copy):
    """Writes a line to a file each time it is made."""

    log: str = ""

    def make(self, parent: Parent, folder: Path) -> None:
        super().make(parent, folder)
        with Path(self.log).open("a") as file:
            file.write(f"{self.name}\n")
