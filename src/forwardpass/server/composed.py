"""Models without an artifact: what the control plane hands to whoever puts them together, and expects back.

A cascade of other models, or a model that lies elsewhere, is an ordinary queue with other replicas; who makes those
is handed in (``Composer``). Knows no kind of composition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from forwardpass.engine.messages import ReadyHead
from forwardpass.monitoring.metrics import Gauge
from forwardpass.registry import ModelFiles
from forwardpass.scheduler import Request, Scheduler
from forwardpass.types import Array, Columns

if TYPE_CHECKING:
    from forwardpass.server.dataplane import DataPlane
    from forwardpass.server.served import ServedModel


class Workers(Protocol):
    """What runs the batches of a version: its worker processes, or what passes its batches on."""

    @property
    def count(self) -> int:
        """How many there should be."""

    @property
    def ready(self) -> int:
        """How many can take batches."""

    @property
    def restarts(self) -> int: ...

    def start(self) -> None: ...

    async def stop(self) -> None:
        """End all of them; what waits is the scheduler's."""


class Composed(Workers, Protocol):
    """What answers for a version that has no artifact."""

    @property
    def members(self) -> tuple[str, ...]:
        """The models of this server that it asks."""

    def statistics(self) -> dict[str, Any]:
        """Its own part of the statistics."""

    def gauges(self, labels: Mapping[str, str]) -> Iterable[Gauge]:
        """What is true of it now; ``labels`` name the model."""


@dataclass(frozen=True)
class Composition:
    """One version to be put together, and how its maker says what becomes of it.

    ``opened`` is called once, when its signature is known, and gives its queue; rows of several requests share a batch
    only where its second argument says so. ``waits`` says why it cannot answer now, and whether that is only because
    servers elsewhere are out of reach; ``answers`` that it can again.
    ``tried`` are versions under no name yet that stand for members of their names.
    """

    served: ServedModel
    files: ModelFiles
    dataplane: DataPlane
    opened: Callable[[ReadyHead, bool], Scheduler]
    waits: Callable[[str, bool], None]
    answers: Callable[[], None]
    tried: Mapping[str, ServedModel] = field(default_factory=dict)
    _last: dict[str, ServedModel] = field(default_factory=dict)

    def member(self, name: str) -> ServedModel:
        """The version that answers for a name here. Raises ``NotFound``.

        What it means to everybody; but one that is kept under no name while another is tried in its place stays the
        member of who had it, as long as it is ready.
        """
        own = self._last.get(name) or self.tried.get(name)
        if own is not None and own.ready and not self.dataplane.publishes(own):
            return own
        self._last[name] = found = self.dataplane.model(name)
        return found


Composer = Callable[[Composition], Composed]  # raises InvalidModel


@dataclass(frozen=True)
class PutOff:
    """Rows of a request that nobody could be asked about for now, to be asked about later.

    ``served`` is what answered, ``rows`` their numbers in the request (shape: [n]), ``columns`` and ``answers`` the
    inputs and outputs of these rows alone.
    """

    served: ServedModel
    request: Request
    rows: Array
    columns: Columns
    answers: Columns


Defer = Callable[[PutOff], None]  # neither waits nor raises
