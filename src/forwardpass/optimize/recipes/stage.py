"""The order in which changes of a model can follow each other, and what all recipes here share.

    training (fewer weights) ─► quantisation (fewer bits) ─► engine (another library, precision, threads)

A combination takes at most one recipe of each stage, in this order.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from enum import IntEnum
from importlib.util import find_spec
from typing import ClassVar

from forwardpass.config import BackendConfig
from forwardpass.optimize.recipe import Recipe


class Stage(IntEnum):
    """Earlier stages come first; nothing quantised can be trained, nothing compiled quantised."""

    TRAINING = 1
    QUANTISATION = 2
    ENGINE = 3


class StagedRecipe(Recipe):
    """A recipe that says when its turn is in a combination, and what it leaves to the next."""

    stages: tuple[Stage, ...]
    suffix: ClassVar[str] = ".onnx"  # of the artifact that it writes
    backend: BackendConfig | None = None  # what it makes the model run on; None: what it ran on before


def missing(*libraries: str) -> str:
    """Why a recipe cannot run for want of a library, or "". Looks for them without loading them."""
    for library in libraries:
        if find_spec(library) is None:
            return f"{library.replace('_', '-')} is not installed"
    return ""


@contextmanager
def quietly() -> Iterator[None]:
    """For libraries that print their progress and warn of what their user cannot change.

    Standard output belongs to the command (``--json``). Not for several threads at once.
    """
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
