"""The two slots of a device: one holds what runs, the other takes what comes next.

    slots = Slots(home)
    slot = slots.start()        once, when the agent starts: the active slot, every file of it checked
    folder = slots.free()       the other one, emptied: unpack a bundle into it
    slot = slots.read(folder)   what was unpacked
    slots.activate(slot)        from now on this one is active, the one before is kept

Loss of power at any point leaves one good slot: ``state.json`` says which is active, it is replaced
all at once, and only when the files it speaks of are on the disk. Knows no models and no network.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

import msgspec

from forwardpass.edge import durable
from forwardpass.edge.home import Home
from forwardpass.edge.manifest import MANIFEST_FILE, Manifest, decode_manifest
from forwardpass.edge.versions import version_order
from forwardpass.errors import ForwardpassError, InvalidModel

log = logging.getLogger(__name__)

NAMES = ("a", "b")


@dataclass(frozen=True)
class Slot:
    """An unpacked bundle. ``digest`` is the SHA-256 of its manifest, and so of all that is in it."""

    name: str
    folder: Path
    manifest: Manifest
    digest: str

    @property
    def models(self) -> Path:
        """The model repository in it."""
        return self.folder / "models"

    def __str__(self) -> str:
        return f"{self.manifest.name} {self.manifest.version} (slot {self.name})"


class Trial(msgspec.Struct, frozen=True):
    """What is not known to be good yet, and how often it was tried; the active slot only where no other can run."""

    digest: str
    attempts: int


class _State(msgspec.Struct, frozen=True):
    active: str | None = None
    previous: str | None = None
    trial: Trial | None = None


class Slots:
    """The slots of a home, for one process at a time (``Home.lock``)."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def start(self) -> Slot | None:
        """The active slot, checked; the one before where that is damaged, and it is active from now on.

        None where nothing was installed yet. Raises ``InvalidModel`` where no slot is good.
        """
        state = self._state()
        if state.active is None:
            return None
        wrong = self._damage(state.active)
        if wrong and state.previous is not None:
            log.error("the active slot %s is damaged: %s; going back to slot %s", state.active, wrong, state.previous)
            worse = self._damage(state.previous)
            if not worse:
                self._write(_State(state.previous))
            wrong = f"{wrong}; {worse}" if worse else ""
        if wrong:
            raise InvalidModel(f"no slot of {self._home.folder} is good: {wrong}; install a bundle again with --bundle")
        return self.active()

    def active(self) -> Slot | None:
        """The active slot, or None; its files are not checked. Raises ``InvalidModel`` for a damaged manifest."""
        name = self._state().active
        return None if name is None else self.read(self._folder(name))

    def read(self, folder: Path) -> Slot:
        """What was unpacked into a slot's folder. Raises ``InvalidModel``."""
        try:
            content = (folder / MANIFEST_FILE).read_bytes()
        except OSError as error:
            raise InvalidModel(f"{folder / MANIFEST_FILE}: {error.strerror or error}") from None
        return Slot(folder.name, folder, decode_manifest(content), hashlib.sha256(content).hexdigest())

    def free(self) -> Path:
        """The folder of the slot that is not active, emptied. What was in it is no way back any more."""
        state = self._state()
        name = NAMES[1] if state.active == NAMES[0] else NAMES[0]
        if state.previous is not None:
            self._write(_State(state.active, trial=state.trial))
        folder = self._folder(name)
        durable.remove_folder(folder)
        durable.make_folder(folder)
        return folder

    def begin_trial(self, slot: Slot) -> int:
        """Remember that this slot is being tried; how often it was begun with the same content, this one included."""
        state = self._state()
        begun = state.trial.attempts if state.trial is not None and state.trial.digest == slot.digest else 0
        self._write(_State(state.active, state.previous, Trial(slot.digest, begun + 1)))
        return begun + 1

    def end_trial(self) -> None:
        """It was found out whether what was tried is good."""
        state = self._state()
        if state.trial is not None:
            self._write(_State(state.active, state.previous))

    def activate(self, slot: Slot, *, proven: bool = True) -> None:
        """Make a slot the active one; the one that was is kept as the way back. Not ``proven``: it is still tried."""
        durable.sync_tree(slot.folder)
        state = self._state()
        previous = state.previous if state.active == slot.name else state.active
        self._write(_State(slot.name, previous, None if proven else Trial(slot.digest, 1)))

    def proven(self, slot: Slot) -> bool:
        """Whether the active slot was found good before it was activated."""
        trial = self._state().trial
        return trial is None or trial.digest != slot.digest

    def revert(self, why: str) -> Slot:
        """Go back to the slot before. Raises ``InvalidModel`` where there is none, or it is damaged."""
        state = self._state()
        if state.previous is None:
            raise InvalidModel(f"there is no slot to go back to ({why})")
        if wrong := self._damage(state.previous):
            raise InvalidModel(f"the slot to go back to is damaged: {wrong} ({why})")
        log.warning("going back from slot %s to slot %s: %s", state.active, state.previous, why)
        self._write(_State(state.previous))
        return self.read(self._folder(state.previous))

    def _folder(self, name: str) -> Path:
        return self._home.slots / name

    def _state(self) -> _State:
        try:
            content = self._home.state.read_bytes()
        except FileNotFoundError:
            return _State()
        try:
            return _decode(content)
        except msgspec.DecodeError as error:
            return self._recovered(f"{self._home.state} is damaged: {error}")

    def _recovered(self, why: str) -> _State:
        """The state by what is in the slots. Of two good ones the older version: it is the one that ran."""
        good = [self.read(self._folder(name)) for name in NAMES if not self._damage(name)]
        good.sort(key=lambda slot: version_order(slot.manifest.version))
        state = _State(good[0].name) if good else _State()
        log.error("%s; taking %s", why, good[0] if good else "none of the slots")
        self._write(state)
        return state

    def _write(self, state: _State) -> None:
        durable.write(self._home.state, msgspec.json.encode(state))

    def _damage(self, name: str) -> str:
        """What is wrong with a slot, or ""."""
        folder = self._folder(name)
        try:
            slot = self.read(folder)
            return next((wrong for path in slot.manifest.files if (wrong := _wrong(slot, path))), "")
        except ForwardpassError as error:
            return error.message


def _wrong(slot: Slot, path: str) -> str:
    file, expected = slot.folder / path, slot.manifest.files[path]
    try:
        with open(file, "rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        return f"{file}: {error.strerror or error}"
    return "" if digest == expected.sha256 else f"{file} is not what its manifest says"


def _decode(content: bytes) -> _State:
    """Raises ``msgspec.DecodeError`` for what no agent wrote."""
    state = msgspec.json.decode(content, type=_State)
    if any(name not in (*NAMES, None) for name in (state.active, state.previous)):
        raise msgspec.ValidationError("a slot is 'a' or 'b'")
    return state
