"""One look for an update, from asking the repository to a slot that is ready to be tried.

Runs in a thread of its own and waits for nothing but the network and the disk, both with limits. A try that
is cut off at any point leaves what runs as it is, and the next goes on from there. Knows no models.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from forwardpass.edge import durable
from forwardpass.edge.bundle import unpack
from forwardpass.edge.distribution import HERE
from forwardpass.edge.failures import Failures
from forwardpass.edge.home import Home
from forwardpass.edge.signing import read_public_keys
from forwardpass.edge.slots import Slot, Slots
from forwardpass.edge.updates.assembly import Assembly, remove_others
from forwardpass.edge.updates.chunks import find_chunks
from forwardpass.edge.updates.client import Client
from forwardpass.edge.updates.release import Release
from forwardpass.edge.versions import version_order
from forwardpass.errors import ForwardpassError, InvalidModel, NotReady

SPARE = 16 << 20  # bytes that an update leaves free on the disk


@dataclass
class Progress:
    """How far a look has come: ``received`` of ``total`` bytes that must be fetched for ``version``.

    ``contact``: the repository was reached, and what it said is believed.
    """

    contact: bool = False
    version: str = ""
    received: int = 0
    total: int = 0


class Preparation:
    """A look on behalf of one device. ``path`` is where the release lies among the targets."""

    def __init__(self, home: Home, slots: Slots) -> None:
        self.progress = Progress()
        self._home = home
        self._slots = slots

    def run(self, client: Client, path: str, active: Slot) -> tuple[Release, Slot] | None:
        """A release and the slot it was unpacked into; None where the device runs it already, or there is none.

        Raises ``InvalidModel`` for what is refused, ``NotReady`` where the network or the room does not do, and
        ``OSError`` where the disk fails.
        """
        release = client.latest(path)
        self.progress.contact = True
        if release is None or release.manifest == active.digest:
            remove_others(self._home.updates, keep=None)
            return None
        self.progress.version = release.version
        assembly = Assembly(self._home.updates, release)
        refusal = refuse(release, active, Failures(self._home.failures))
        remove_others(self._home.updates, keep=None if refusal else assembly.path)
        if refusal:
            raise InvalidModel(f"update refused: {refusal}")
        try:
            self._download(client, release, assembly)
            return release, self._unpacked(release, assembly)
        except (ForwardpassError, OSError):
            if self._room() < SPARE:  # others need what is left of the disk more
                assembly.remove()
            raise

    def _download(self, client: Client, release: Release, assembly: Assembly) -> None:
        self._require_room(release, assembly)
        lacking = assembly.lacking(find_chunks(_files(self._home.slots)))
        self.progress.total = sum(chunk.size for _, chunk in lacking)
        for offset, chunk in lacking:
            assembly.put(offset, client.chunk(chunk))
            self.progress.received += chunk.size

    def _unpacked(self, release: Release, assembly: Assembly) -> Slot:
        bundle = assembly.finish()
        folder = self._slots.free()
        unpack(bundle, folder, read_public_keys(self._home.keys))
        slot = self._slots.read(folder)
        if (slot.digest, slot.manifest.version) != (release.manifest, release.version):
            raise InvalidModel(
                f"update refused: the bundle of {release} holds {slot.manifest.name} {slot.manifest.version}"
            )
        from forwardpass.edge.targets import missing_runtime  # with much that no look without an update needs

        if missing := missing_runtime(slot.manifest.runtime):
            raise InvalidModel(f"update refused: {'; '.join(missing)}")
        durable.sync_tree(folder)
        assembly.remove()
        return slot

    def _require_room(self, release: Release, assembly: Assembly) -> None:
        """Room for the bundle and, once the slot that is not active was emptied, for what is in it."""
        active = self._slots.active()
        emptied = sum(file.stat().st_size for file in _files(self._home.slots, but=active.name if active else ""))
        bundle = max(release.size - assembly.allocated(), 0)
        needed = max(bundle, bundle + release.size - emptied) + SPARE
        free = self._room()
        if needed > free:
            raise NotReady(
                f"no room for {release}: it needs {needed:,} bytes, and {self._home.folder} has {free:,}; free some"
            )

    def _room(self) -> int:
        """Bytes that are free on the disk."""
        found = os.statvfs(self._home.updates)
        return found.f_bavail * found.f_frsize


def refuse(release: Release, active: Slot, failures: Failures) -> str:
    """Why a device that runs this slot does not take a release, or ""."""
    runs = active.manifest
    if (release.target, release.model) != (runs.target, runs.model):
        return f"it is {release}, and this device runs {runs.model} for {runs.target}"
    if version_order(release.version) < version_order(runs.version):
        return f"{release} is older than {runs.version}, which runs; publish what was good under a newer version"
    if failure := failures.find(release.manifest):
        return f"{release} was tried and taken back: {failure.why}; `{HERE.program} check` has it tried again"
    return ""


def _files(slots: Path, but: str = "") -> Iterator[Path]:
    """Every file in the slots, whatever state they are in, but for one slot."""
    for slot in sorted(slots.iterdir()) if slots.is_dir() else ():
        if slot.name != but:
            yield from (path for path in slot.rglob("*") if path.is_file() and not path.is_symlink())
