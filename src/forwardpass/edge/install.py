"""What an agent starts with: the keys that its home trusts, and the slots, with a first bundle or another in one.

Nothing is unpacked that is not signed by a trusted key, that this machine cannot run, or that was taken back here
before. A device that has something good to run does so, whatever it was handed. Knows no running agent.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from forwardpass.edge import durable, signing
from forwardpass.edge.bundle import read_manifest, unpack
from forwardpass.edge.distribution import HERE
from forwardpass.edge.failures import Failures
from forwardpass.edge.home import Home
from forwardpass.edge.manifest import Manifest
from forwardpass.edge.slots import Slot, Slots
from forwardpass.edge.versions import version_order
from forwardpass.errors import ForwardpassError, InvalidModel, InvalidSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Installed:
    """``slot`` is what is loaded; ``first``: it came just now, and is not the active one before it was found good.

    ``beside`` is another one, to be tried while ``slot`` runs; ``error`` is why what was handed over is not used.
    """

    slot: Slot
    first: bool = False
    beside: Slot | None = None
    error: str = ""


def install(home: Home, slots: Slots, bundle: Path | None, trusted: Sequence[Path] = ()) -> Installed:
    """Trust keys, and unpack a bundle that does not run yet.

    Raises ``InvalidSettings`` where nothing is there to run; then also what is wrong with the bundle or a key.
    """
    Failures(home.failures).forget(lambda failure: failure.unfit)  # what this device lacked may be here by now
    active = _active(slots, handed=bundle is not None)
    try:
        trust(home, trusted)
        slot = None if bundle is None else _unpacked(home, slots, bundle, active)
    except (ForwardpassError, OSError) as error:
        if active is None:
            raise
        why = error.message if isinstance(error, ForwardpassError) else durable.refusal(error)
        log.error("%s; %s runs on", why, active)
        return Installed(active, error=why)
    if active is not None:
        return Installed(active, beside=slot)
    if slot is None:
        raise _nothing(home)
    return Installed(slot, first=True)


def check_handed(home: Home, bundle: Path | None, trusted: Sequence[Path]) -> None:
    """Raises where a start with these would refuse one of them; changes nothing."""
    keys = signing.read_public_keys(home.keys) if home.keys.is_dir() else {}
    for file in trusted:
        keys |= signing.read_public_keys(file)
    if bundle is not None:
        _check_fit(bundle, _read(bundle, keys, home)[0])
    elif not home.state.exists():
        raise _nothing(home)


def trust(home: Home, files: Sequence[Path]) -> None:
    """Put keys among those that are trusted. Raises ``InvalidSettings`` for what is none."""
    known = signing.read_public_keys(home.keys) if files else {}
    for file in files:
        for key_id, key in signing.read_public_keys(file).items():
            if key_id not in known:
                durable.write(home.keys / f"{key_id}{signing.PUBLIC_ENDING}", signing.public_pem(key))
                log.info("the key %s is trusted from now on", key_id)


def _nothing(home: Home) -> InvalidSettings:
    return InvalidSettings(
        f"nothing is installed in {home.folder}; give the first bundle: "
        f"{HERE.program} --home {home.folder} --bundle FILE --trust KEY.pub"
    )


def _active(slots: Slots, handed: bool) -> Slot | None:
    """Raises ``InvalidModel`` where no slot is good any more, and no bundle was handed over to take their place."""
    try:
        return slots.start()
    except InvalidModel as error:
        if not handed:
            raise
        log.error("%s", error.message)
        return None


def _unpacked(home: Home, slots: Slots, bundle: Path, active: Slot | None) -> Slot | None:
    """None where that runs already, or something newer does. Raises where it cannot be used here."""
    keys = signing.read_public_keys(home.keys)
    manifest, digest = _read(bundle, keys, home)
    if active is not None and active.digest == digest:
        return None
    if active is not None and _is_newer(active.manifest, manifest):
        log.warning("%s runs, which is newer than %s: left as it is", active, bundle)
        return None
    _check_fit(bundle, manifest)
    if active is not None:
        _check_failures(bundle, digest, home)
    folder = slots.free()
    unpack(bundle, folder, keys)
    return slots.read(folder)


def _read(bundle: Path, keys: signing.Keys, home: Home) -> tuple[Manifest, str]:
    """Raises ``InvalidSettings`` where no key is trusted, ``InvalidModel`` where none of them signed it."""
    if not keys:
        raise InvalidSettings(f"no key is trusted in {home.keys}; add the one that signed {bundle} with --trust FILE")
    return read_manifest(bundle, keys)


def _check_fit(bundle: Path, manifest: Manifest) -> None:
    """Raises ``InvalidModel`` where what a bundle needs is not installed here."""
    from forwardpass.edge.targets import fits_here, missing_runtime  # with much that no later start needs

    if missing := missing_runtime(manifest.runtime):
        raise InvalidModel(f"{bundle} cannot run here: {'; '.join(missing)}")
    if not fits_here(manifest.target):
        log.warning(
            "%s was made for %s, which this machine is not; it gets the updates of those", bundle, manifest.target
        )


def _check_failures(bundle: Path, digest: str, home: Home) -> None:
    """Raises ``InvalidModel`` where it was taken back before."""
    failure = Failures(home.failures).find(digest)
    if failure is not None:
        raise InvalidModel(
            f"{bundle} was tried and taken back: {failure.why}; remove {home.failures} to have it tried again"
        )


def _is_newer(one: Manifest, other: Manifest) -> bool:
    """Of the same model."""
    same = (one.name, one.model) == (other.name, other.model)
    return same and version_order(one.version) > version_order(other.version)
