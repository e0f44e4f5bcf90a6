"""What a target is: a machine on which a model folder is measured in a process of its own.

Two kinds of failure, because they mean different things to a search. ``ProbeFailed`` is about the model that was being
measured: it is recorded, and the rest go on. ``TargetFailed`` is about the machine: the search stops, and can be
resumed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from forwardpass.errors import BackendFailed
from forwardpass.optimize.probe import Measured


class ProbeFailed(BackendFailed):
    """A model could not be measured; the message says why in one line."""


class TargetFailed(OSError):
    """A target cannot be used; the text names it, says why and what to do.

    No ``ForwardpassError``: those are a candidate's own, like a full disk this is nobody's.
    """


@dataclass(frozen=True)
class Order:
    """What to measure: as ``probe.Spec``, with paths on this machine.

    ``predictions`` is the file to write them to; None: none are made. ``timeout`` in seconds, of the process alone.
    """

    model: Path
    rows: Path
    predictions: Path | None
    threads: int | None
    seconds: float
    timeout: float


@dataclass(frozen=True)
class Host:
    """A machine: what ``lineage.machine`` and ``lineage.libraries`` say there, and the backends without a library.

    ``flags`` is what its processor computes in, as ``cpu_flags`` says there.
    """

    machine: dict[str, Any]
    libraries: dict[str, str]
    lacks: tuple[str, ...] = ()
    flags: frozenset[str] = frozenset()


class Target(Protocol):
    """``name`` is how its user calls it. Used by one thread; calls after ``close`` open it again."""

    @property
    def name(self) -> str: ...

    def host(self) -> Host:
        """The machine. Raises ``TargetFailed``."""

    def measure(self, order: Order) -> Measured:
        """Measure one model. Raises ``ProbeFailed`` or ``TargetFailed``."""

    def close(self) -> None:
        """Leave nothing there."""
