"""A publisher of updates for a device: versions of ``motor``, ``y = x``, each as large as a test wants it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from tests import artifacts
from tests.edge.devices import Factory

from forwardpass.edge.home import Home

pytest.importorskip("tuf", reason="updates need tuf (the extra `updates`)")

from forwardpass.edge.updates.repository import Repository
from forwardpass.edge.updates.signers import Signers

MONTH = timedelta(days=30)
STEPS = """\
from forwardpass import step

FILES = ("noise.bin",)  # goes along: a file whose name stands here

@step(reads=["y"], writes=["y"])
def same(columns):
    return {"y": columns["y"] + 0.0}
"""


class Publisher:
    """``clock`` is the publisher's own, in seconds since the epoch."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.served = folder / "served"
        self.factory = Factory(folder)
        signers = Signers(folder / "keys")
        signers.create()
        self._folder = folder
        self._repository = Repository(self.served, signers, clock)

    def bundle(self, version: str, noise: int = 0) -> Path:
        """With ``noise`` random bytes."""
        model = self._folder / version / "motor"
        artifacts.identity(model / version / "model.onnx")
        (model / version / "model.yaml").write_text("postprocess: [{step: same}]\n")
        (model / version / "steps.py").write_text(STEPS)
        (model / version / "noise.bin").write_bytes(random.Random(version).randbytes(noise))
        return self.factory.bundle(model, [[index / 16, 0.5] for index in range(12)])

    def publish(self, bundle: Path) -> None:
        self._repository.publish(bundle, "stable", MONTH)

    def trusted_by(self, home: Home) -> None:
        """What a device must have from the publisher, by a way that is trusted."""
        home.create()
        (home.updates / "root.json").write_bytes(self._repository.first_root.read_bytes())
