"""Model folders for tests of jobs: ``y = x``, with a step that objects, waits or dies as the rows say."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

from tests import artifacts

BAD, POISON, DEADLY = 13.0, 500.0, 666.0  # refused by name, raises, ends the process

STEPS = f"""
    import os
    import time

    import numpy as np

    from forwardpass.errors import InvalidRows
    from forwardpass.pipeline import step


    @step(reads=["x"], writes=["x"])
    def judge(columns):
        time.sleep(DELAY)
        values = columns["x"]
        if ({DEADLY} == values).any():
            os._exit(9)
        if ({POISON} == values).any():
            raise RuntimeError("poisoned")
        bad = np.flatnonzero(values == {BAD})
        if len(bad):
            raise InvalidRows({{int(row): "thirteen" for row in bad}})
        return {{"x": values}}
"""


def judging(folder: Path, delay: float = 0.0) -> Path:
    """``y = x`` of one number; takes ``delay`` seconds for each batch."""
    artifacts.identity(folder / "model.onnx", shape=("N",))
    (folder / "steps.py").write_text(dedent(STEPS).replace("DELAY", str(delay)), encoding="utf-8")
    (folder / "model.yaml").write_text("preprocess: [{step: judge}]\n", encoding="utf-8")
    return folder
