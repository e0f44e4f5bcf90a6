"""The contract of a step, and how steps are found by the name that ``model.yaml`` gives them.

A step is a frozen dataclass whose fields are its parameters. It declares which columns it reads
and what it writes; ``open`` loads what it needs (labels, a tokenizer) from the model's folder once
and returns the function that runs it on a batch.

While rows are of unlike size (decoded images, tokens before padding) a column is an object array
of arrays, one per row; its spec then has ``None`` for the axes that differ.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

from forwardpass.types import Columns, TensorSpec

Apply = Callable[[Columns], Columns]


class Step(ABC):
    """One pure transformation of a batch.

    Subclasses are frozen dataclasses. The class docstring is the step's documentation (first line:
    what it does), and every field has a ``config.doc`` line as metadata for its parameter.
    A parameter that makes no sense raises ``InvalidModel`` from ``__post_init__``.
    """

    name: ClassVar[str]

    @property
    @abstractmethod
    def reads(self) -> tuple[str, ...]:
        """Columns that must be there."""

    @abstractmethod
    def writes(self, columns: Mapping[str, TensorSpec]) -> tuple[TensorSpec, ...]:
        """Columns that it adds or replaces, given what is there (all of ``reads`` is).

        Raises ``InvalidModel`` where a column is of a type that the step cannot work on.
        """

    @abstractmethod
    def open(self, folder: Path) -> Apply:
        """Load resources from the model's folder; return the function that runs the step.

        The function takes all columns and returns only those it writes, with as many rows as came
        in, in the same order. It never changes its argument, gives a row the same result whatever
        its neighbours are (padding apart), and raises ``InvalidRows`` where it cannot do some rows.
        Zero rows are a batch too.
        """
