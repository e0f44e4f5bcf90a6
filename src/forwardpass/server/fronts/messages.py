"""What the first front tells the others, and what they answer. Knows no sockets."""

from __future__ import annotations

import msgspec

from forwardpass.config import Limits, Settings
from forwardpass.monitoring import ModelStats


class Start(msgspec.Struct, tag="start"):
    """The first message. With it come the listening socket and the memory of shared queue limits."""

    settings: Settings
    relay: int  # port where the first front listens for what is relayed
    index: int
    fronts: int


class Attach(msgspec.Struct, tag="attach"):
    """A worker was started; with it comes a link. ``key`` names the model version as loaded this time."""

    key: int
    slot: int | None  # of its shared queue limit
    name: str
    version: str
    path: str
    limits: Limits
    pid: int


class Publish(msgspec.Struct, tag="publish"):
    """Requests for this name and version go to this one from now on."""

    key: int


class Elsewhere(msgspec.Struct, tag="elsewhere"):
    """Only the first front answers for these names, whatever versions of them others have."""

    names: list[str]


class Retire(msgspec.Struct, tag="retire"):
    """Finish what waits, close the links, say ``Done``."""

    key: int
    call: int


class Settle(msgspec.Struct, tag="settle"):
    """Say ``Done`` once every one of these models whose workers live is ready."""

    keys: list[int]
    call: int


class Report(msgspec.Struct, tag="report"):
    """Say what the requests and queues were, in ``Reported``."""

    call: int


class Drain(msgspec.Struct, tag="drain"):
    """Finish what is under way, then end."""


class Done(msgspec.Struct, tag="done"):
    call: int


class ModelReport(msgspec.Struct):
    """One version as one front saw it. Its ``stats`` are of all times that it was loaded."""

    name: str
    version: str
    stats: ModelStats
    reasons: dict[str, int]
    queued_rows: int
    queued_bytes: int


class Reported(msgspec.Struct, tag="reported"):
    call: int
    models: list[ModelReport]


Order = Start | Attach | Publish | Elsewhere | Retire | Settle | Report | Drain
Answer = Done | Reported
