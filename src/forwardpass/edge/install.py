"""What an agent starts with: the keys that its home trusts, and the slots, with a first bundle or another in one.

Nothing is unpacked that is not signed by a trusted key, or that this machine cannot run. Knows no running agent.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

from forwardpass.edge import signing
from forwardpass.edge.bundle import read_manifest, unpack
from forwardpass.edge.home import Home
from forwardpass.edge.manifest import Manifest, encode_manifest
from forwardpass.edge.slots import Slot, Slots
from forwardpass.edge.versions import version_order
from forwardpass.errors import InvalidModel, InvalidSettings

log = logging.getLogger(__name__)


def trust(home: Home, files: Sequence[Path]) -> None:
    """Put keys among those that are trusted. Raises ``InvalidSettings`` for what is none."""
    for file in files:
        for key_id in signing.read_public_keys(file):
            kept = home.keys / f"{key_id}{signing.PUBLIC_ENDING}"
            if not kept.exists():
                shutil.copyfile(file, kept)
                log.info("the key %s is trusted from now on", key_id)


def install(home: Home, slots: Slots, bundle: Path | None) -> tuple[Slot | None, Slot | None]:
    """The active slot, and the one that the bundle was unpacked into where it is another.

    Raises ``InvalidSettings`` where there is neither, ``InvalidModel`` for a bundle that is no good.
    """
    try:
        active = slots.start()
    except InvalidModel as error:
        if bundle is None:
            raise
        log.error("%s", error.message)
        active = None
    if bundle is None:
        if active is None:
            raise InvalidSettings(
                f"nothing is installed in {home.folder}; give the first bundle: "
                f"forwardpass agent --home {home.folder} --bundle FILE --trust KEY.pub"
            )
        return active, None
    keys = signing.read_public_keys(home.keys)
    if not keys:
        raise InvalidSettings(f"no key is trusted in {home.keys}; add the one that signed {bundle} with --trust FILE")
    manifest = read_manifest(bundle, keys)
    if active is not None and encode_manifest(active.manifest) == encode_manifest(manifest):
        return active, None
    if active is not None and _is_newer(active.manifest, manifest):
        log.warning("%s runs, which is newer than %s: left as it is", active, bundle)
        return active, None
    _check_fit(bundle, manifest)
    folder = slots.free()
    unpack(bundle, folder, keys)
    return active, slots.read(folder)


def _check_fit(bundle: Path, manifest: Manifest) -> None:
    """Raises ``InvalidModel`` where what a bundle needs is not installed here."""
    from forwardpass.edge.targets import fits_here, missing_runtime  # with much that no later start needs

    if missing := missing_runtime(manifest.runtime):
        raise InvalidModel(f"{bundle} cannot run here: {'; '.join(missing)}")
    if not fits_here(manifest.target):
        log.warning(
            "%s was made for %s, which this machine is not; it gets the updates of those", bundle, manifest.target
        )


def _is_newer(one: Manifest, other: Manifest) -> bool:
    """Of the same model."""
    same = (one.name, one.model) == (other.name, other.model)
    return same and version_order(one.version) > version_order(other.version)
