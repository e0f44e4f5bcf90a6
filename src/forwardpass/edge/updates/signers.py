"""The publisher's keys: one for each of the four roles of The Update Framework, in a folder of their own.

    ROLE.key, ROLE-2.key …       where a key was replaced, the newer one is used; the root metadata says which holds

Nothing is removed: repositories may share the folder, and each goes on with the keys that its root names. The root
key is needed only to begin a repository, to replace keys, and years later to renew the root; it may lie elsewhere
in between. Knows no metadata.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from securesystemslib.signer import CryptoSigner, SSlibKey  # type: ignore[attr-defined]

from forwardpass.edge import durable
from forwardpass.edge.signing import create_key, default_folder, public_file, read_private_key
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
        missing = [role for role in ROLES if not self._files(role)]
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidSettings(f"cannot make the folder for keys {self.folder}: {error.strerror or error}") from None
        for role in missing:
            self._create(self.folder / f"{role}.key")
        return bool(missing)

    def add(self, role: str) -> CryptoSigner:
        """Another key for a role, newer than those that are there."""
        number = 1 + max((_number(file) for file in self._files(role)), default=0)
        return _signer(self._create(self.folder / (f"{role}-{number}.key" if number > 1 else f"{role}.key")))

    def signer(self, role: str, among: Collection[str] = ()) -> CryptoSigner:
        """The newest key of a role, or the one whose id is ``among`` those given."""
        files = self._files(role)
        if not files:
            raise InvalidSettings(
                f"the {role} key is not there: {self.folder / f'{role}.key'}; give the folder that this repository was "
                "begun with by --keys"
            )
        for signer in map(_signer, files):
            if not among or signer.public_key.keyid in among:
                return signer
        raise InvalidSettings(
            f"the {role} key in {self.folder} is not the one that devices believe: this repository was begun with "
            "other keys, give their folder by --keys"
        )

    def _files(self, role: str) -> list[Path]:
        """Of a role's keys, the newest first."""
        found = [file for file in self.folder.glob(f"{role}*.key") if _number(file) and file.stem.split("-")[0] == role]
        return sorted(found, key=_number, reverse=True)

    def _create(self, file: Path) -> Path:
        """A key that is on the disk: what it will have signed is of no use without it."""
        create_key(file)
        for path in (file, public_file(file), file.parent):
            durable.sync(path)
        return file


def _signer(file: Path) -> CryptoSigner:
    private = read_private_key(file)
    return CryptoSigner(private, SSlibKey.from_crypto(private.public_key()))


def _number(file: Path) -> int:
    """Of a key among those of its role, from 1; 0 for a file that is none."""
    _, dash, number = file.stem.partition("-")
    return int(number) if number.isascii() and number.isdigit() else int(not dash)
