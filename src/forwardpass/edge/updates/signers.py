"""The publisher's keys: one for each of the four roles of The Update Framework, in a folder of their own.

Made once. The root key is needed only to begin a repository, and years later to renew its root; it may
lie elsewhere in between. Knows no metadata.
"""

from __future__ import annotations

import os
from pathlib import Path

from securesystemslib.signer import CryptoSigner, SSlibKey  # type: ignore[attr-defined]

from forwardpass.edge.signing import create_key, default_folder, read_private_key
from forwardpass.errors import InvalidSettings

ROLES = ("root", "targets", "snapshot", "timestamp")


def default_keys() -> Path:
    return default_folder() / "publish"


class Signers:
    """The keys in a folder. Raises ``InvalidSettings`` where one that is needed is not there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def create(self) -> bool:
        """Make the keys that are missing, for nobody else to read; whether any was."""
        missing = [role for role in ROLES if not self._file(role).exists()]
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidSettings(f"cannot make the folder for keys {self.folder}: {error.strerror or error}") from None
        for role in missing:
            create_key(self._file(role))
        return bool(missing)

    def signer(self, role: str) -> CryptoSigner:
        file = self._file(role)
        if not os.path.exists(file):
            raise InvalidSettings(
                f"the {role} key is not there: {file}; give the folder that this repository was begun with by --keys"
            )
        private = read_private_key(file)
        return CryptoSigner(private, SSlibKey.from_crypto(private.public_key()))

    def _file(self, role: str) -> Path:
        return self.folder / f"{role}.key"
