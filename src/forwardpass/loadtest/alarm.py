"""A timer that is right to some 50 microseconds, for an event loop whose own is right to a millisecond.

At some thousand requests per second a millisecond is several requests, sent in a burst that nobody
planned. Linux has a timer that is a file (timerfd), which the event loop waits for like any other;
elsewhere the loop's own timer must do.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable

_MONOTONIC, _NONBLOCK = 1, 0o4000
_SOONEST = 1e-7  # seconds; 0 would switch the timer off


class Alarm(ABC):
    """Calls ``ring`` once after each ``set``."""

    @abstractmethod
    def set(self, seconds: float) -> None:
        """Ring this long from now, and not at the time set before."""

    @abstractmethod
    def close(self) -> None:
        """Never ring again."""


def create_alarm(loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> Alarm:
    """The best there is on this system."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            return TimerFile(loop, ring)
    return LoopTimer(loop, ring)


class LoopTimer(Alarm):
    """The event loop's own timer."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop, self._ring = loop, ring
        self._handle: asyncio.TimerHandle | None = None

    def set(self, seconds: float) -> None:
        self.close()
        self._handle = self._loop.call_later(seconds, self._ring)

    def close(self) -> None:
        if self._handle is not None:
            self._handle.cancel()


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class TimerFile(Alarm):
    """Linux's timerfd."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._file = int(self._libc.timerfd_create(_MONOTONIC, _NONBLOCK))
        if self._file < 0:
            raise OSError(ctypes.get_errno(), "no timerfd")
        self._loop, self._ring = loop, ring
        self._spec = _Itimerspec()
        loop.add_reader(self._file, self._rings)

    def set(self, seconds: float) -> None:
        seconds = max(seconds, _SOONEST)
        value = self._spec.value
        value.seconds = int(seconds)
        value.nanoseconds = int((seconds - int(seconds)) * 1e9)
        self._libc.timerfd_settime(self._file, 0, ctypes.byref(self._spec), None)

    def close(self) -> None:
        if self._file >= 0:
            self._loop.remove_reader(self._file)
            os.close(self._file)
            self._file = -1

    def _rings(self) -> None:
        with contextlib.suppress(BlockingIOError):  # set anew between ringing and now
            os.read(self._file, 8)
            self._ring()
