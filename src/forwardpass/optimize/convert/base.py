"""The contract of a trained model that may be imported, whichever library trained it.

Knows no library, no folder and no comparison. ``FEATURES``, ``LABEL``, ``PROBABILITIES`` and ``PREDICTION`` are the
names that every imported table model has for its input and its answers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from forwardpass.types import Columns

FEATURES, LABEL, PROBABILITIES, PREDICTION = "features", "label", "probabilities", "prediction"


class Trained(ABC):
    """A trained model: its answers, rows to try it on, and the two ways to write it down.

    ``title`` names the model for people, ``versions`` the libraries that it comes from, ``native`` is the end of the
    name of its own format and ``drawn`` says in words where the rows of ``draw`` come from.
    """

    title: str
    versions: dict[str, str]
    native: str
    drawn: str

    @abstractmethod
    def predict(self, columns: Columns) -> Columns:
        """The model's own answers, under the names that the imported model will use."""

    @abstractmethod
    def draw(self, rows: int) -> Columns:
        """About this many rows to try it on; the same ones each time."""

    @abstractmethod
    def columns(self, table: Columns) -> Columns:
        """The model's inputs from a table or arrays by name. ``InvalidInput`` where they do not fit."""

    @abstractmethod
    def write_onnx(self, path: Path) -> None:
        """Convert it. ``InvalidModel`` says what cannot be converted and why."""

    @abstractmethod
    def write_native(self, path: Path) -> None:
        """Write it in its own format."""
