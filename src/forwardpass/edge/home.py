"""An agent's home: one folder that holds all it keeps, and the names of what lies in it.

    HOME/agent.yaml      settings (optional)       HOME/outbox.sqlite  what waits for the cloud
    HOME/keys/*.pub      keys that are trusted     HOME/updates/       metadata, downloads, what failed
    HOME/slots/a|b/      an unpacked bundle each   HOME/agent.sock     status
    HOME/state.json      which slot is active      HOME/agent.lock     held by the agent that runs

What it does not know is left alone. Knows where things lie, and not what is in them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from forwardpass.edge import durable
from forwardpass.errors import InvalidSettings


@dataclass(frozen=True)
class Home:
    """Where an agent keeps what it keeps."""

    folder: Path

    @property
    def settings(self) -> Path:
        return self.folder / "agent.yaml"

    @property
    def keys(self) -> Path:
        return self.folder / "keys"

    @property
    def slots(self) -> Path:
        return self.folder / "slots"

    @property
    def state(self) -> Path:
        return self.folder / "state.json"

    @property
    def outbox(self) -> Path:
        return self.folder / "outbox.sqlite"

    @property
    def updates(self) -> Path:
        return self.folder / "updates"

    @property
    def failures(self) -> Path:
        return self.updates / "failed.json"

    @property
    def socket(self) -> Path:
        return self.folder / "agent.sock"

    def create(self) -> None:
        """Make the folders that are missing. Raises ``InvalidSettings`` where that is not allowed."""
        try:
            for folder in (self.folder, self.keys, self.slots, self.updates):
                durable.make_folder(folder)
        except OSError as error:
            raise InvalidSettings(f"cannot make the home {self.folder}: {error.strerror or error}") from None

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Held while an agent runs, and let go by its death. Raises ``InvalidSettings`` where another holds it."""
        descriptor = os.open(self.folder / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise InvalidSettings(
                    f"another agent runs with the home {self.folder}: stop it, or give this one a --home of its own"
                ) from None
            yield
        finally:
            os.close(descriptor)
