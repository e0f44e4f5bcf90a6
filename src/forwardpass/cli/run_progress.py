"""How ``forwardpass run`` tells what it does: one live line on a terminal, plain lines elsewhere, or JSON.

Progress goes to stderr, so that stdout holds nothing or, with ``--json``, the events.
"""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod

import msgspec
import typer

from forwardpass.errors import ForwardpassError
from forwardpass.jobs.manifest import Manifest
from forwardpass.jobs.progress import Snapshot

BAR = 24  # characters
LIVE, PLAIN, EVENTS = 0.2, 5.0, 1.0  # seconds between two tellings


class Display(ABC):
    """Hears of a run's progress and end."""

    every: float

    def __init__(self) -> None:
        self._told = 0.0

    def progress(self, snapshot: Snapshot) -> None:
        """Called often; told now and then."""
        now = time.monotonic()
        if now - self._told >= self.every:
            self._told = now
            self.show(snapshot)

    @abstractmethod
    def show(self, snapshot: Snapshot) -> None: ...

    @abstractmethod
    def note(self, text: str) -> None: ...

    @abstractmethod
    def done(self, manifest: Manifest) -> None: ...

    @abstractmethod
    def failed(self, error: ForwardpassError) -> None: ...


class Lines(Display):
    """A line every few seconds."""

    every = PLAIN

    def show(self, snapshot: Snapshot) -> None:
        typer.echo(line(snapshot), err=True)

    def note(self, text: str) -> None:
        typer.echo(text, err=True)

    def done(self, manifest: Manifest) -> None:
        typer.echo(summary(manifest), err=True)

    def failed(self, error: ForwardpassError) -> None:
        typer.echo(f"forwardpass: {' '.join(error.message.split())}", err=True)


class Live(Lines):
    """One line, written over and over."""

    every = LIVE

    def show(self, snapshot: Snapshot) -> None:
        share = snapshot.rows_done / snapshot.rows if snapshot.rows else 1.0
        filled = round(BAR * min(1.0, share))
        sys.stderr.write(f"\r\x1b[K{'━' * filled}{'─' * (BAR - filled)} {line(snapshot)}")
        sys.stderr.flush()

    def done(self, manifest: Manifest) -> None:
        sys.stderr.write("\r\x1b[K")
        super().done(manifest)

    def failed(self, error: ForwardpassError) -> None:
        sys.stderr.write("\r\x1b[K")
        super().failed(error)


class Events(Display):
    """A line of JSON each."""

    every = EVENTS

    def show(self, snapshot: Snapshot) -> None:
        _write(msgspec.json.encode(snapshot))

    def note(self, text: str) -> None:
        _write(msgspec.json.encode({"event": "note", "text": text}))

    def done(self, manifest: Manifest) -> None:
        _write(msgspec.json.encode({"event": "done", "manifest": manifest}))

    def failed(self, error: ForwardpassError) -> None:
        _write(msgspec.json.encode({"event": "failed", "kind": type(error).__name__, "error": error.message}))


def create_display(as_json: bool) -> Display:
    if as_json:
        return Events()
    return Live() if sys.stderr.isatty() else Lines()


def line(snapshot: Snapshot) -> str:
    """Rows, rate, time to go, rows set aside, parts."""
    share = f"{100 * snapshot.rows_done / snapshot.rows:.0f} %" if snapshot.rows else "100 %"
    pieces = [f"{share}  {snapshot.rows_done:,} of {snapshot.rows:,} rows"]
    if snapshot.rate > 0:
        pieces.append(f"{snapshot.rate:,.0f}/s")
    if snapshot.remaining is not None and snapshot.rows_done < snapshot.rows:
        pieces.append(f"{duration(snapshot.remaining)} to go")
    if snapshot.rejected:
        pieces.append(f"{snapshot.rejected:,} rejected")
    pieces.append(f"{snapshot.parts_done} of {snapshot.parts} parts")
    if snapshot.parts_failed:
        pieces.append(f"{snapshot.parts_failed} failed")
    return " · ".join(pieces)


def summary(manifest: Manifest) -> str:
    """What there is now, and where."""
    aside = f", {manifest.rejected:,} rejected ({manifest.output}.job/rejected)" if manifest.rejected else ""
    out = f", {manifest.left_out:,} left out by --where" if manifest.left_out else ""
    return f"{manifest.rows_out:,} rows in {manifest.output}{aside}{out}; {manifest.output}.job/manifest.json"


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _write(data: bytes) -> None:
    sys.stdout.write(data.decode() + "\n")
    sys.stdout.flush()
