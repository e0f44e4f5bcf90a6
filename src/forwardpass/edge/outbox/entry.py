"""What lies in an outbox: one entry is one thing to tell, whole and with a name of its own.

An entry's times are as the device saw them. Its clock may be off by years, so beside the time of day there are the
seconds since the device was started, and which start that was. Knows no file and no network.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from pathlib import Path

_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Kind(StrEnum):
    """What an entry tells."""

    USAGE = "usage"  # what was predicted in a minute, of one version
    RECORD = "record"  # the facts of one prediction, and its answers
    SAMPLE = "sample"  # its rows too, for people to look at
    ESCALATION = "escalation"  # rows that a better model is still to be asked about; never uploaded as they are


class Needs(IntEnum):
    """What must be allowed to leave the device, so that an entry may."""

    USAGE = 0
    OUTPUTS = 1
    UNSURE = 2
    ALL = 3


@dataclass(frozen=True)
class Entry:
    """One thing to tell. ``body`` is JSON, an object; ``at`` is seconds since the epoch, ``up`` since start ``boot``.

    ``useful`` says of samples which are worth more. An entry older than ``most_age`` seconds is of no more use.
    """

    id: str
    kind: Kind
    body: bytes
    at: float
    up: float
    boot: str
    needs: Needs
    useful: float = 0.0
    most_age: float | None = None


def derived_id(kind: Kind, prediction: str, *, failed: bool = False) -> str:
    """The same whenever it is made of the same; a prediction's own id may be any text."""
    made_of = f"{kind}\0{failed}\0{prediction}"
    return hashlib.sha256(made_of.encode(errors="surrogatepass")).hexdigest()[:24]


def system_boot() -> str:
    """A name of this start of the machine; of this process where the system has none."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return secrets.token_hex(16)


def system_up() -> float:
    """Seconds since the machine was started, asleep or not."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


@dataclass(frozen=True)
class DeviceClock:
    """The two clocks of a device: ``wall`` may jump, ``up`` never does while ``boot`` stays the same."""

    wall: Callable[[], float] = time.time
    up: Callable[[], float] = system_up
    boot: str = field(default_factory=system_boot)
