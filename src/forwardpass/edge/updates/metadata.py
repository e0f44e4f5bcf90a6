"""The metadata of a repository: read with suspicion, signed and written in the order that keeps it whole.

    DIR/metadata/    N.root.json, N.targets.json, N.snapshot.json, timestamp.json

``timestamp.json`` is what devices begin with, and is replaced last: until then they see the state before. States
are numbered by the time, so that a repository that was lost can be begun again with the same keys. Knows no
releases: of a target, its path, size and digest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (  # type: ignore[attr-defined]
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    T,
    TargetFile,
    Targets,
    Timestamp,
)

from forwardpass.edge import durable
from forwardpass.edge.updates.signers import ROLES, Signers
from forwardpass.errors import InvalidModel, InvalidSettings

ROOT_LASTS = timedelta(days=3650)
ROOT_RENEWED = timedelta(days=365)  # before it expires
TIMESTAMP = "timestamp.json"
TARGETS = "targets.json"


@dataclass(frozen=True)
class State:
    """What is published: the number of its state, and the targets by path."""

    version: int
    targets: Mapping[str, TargetFile]


class MetadataFolder:
    """The metadata in a folder, and the keys to sign it with."""

    def __init__(self, folder: Path, signers: Signers) -> None:
        self.folder = folder
        self._signers = signers

    def read(self) -> State | None:
        """What is published now, found the way that devices find it; None before the first time.

        Raises ``InvalidSettings`` where it was begun with other keys, ``InvalidModel`` where it was not signed so.
        """
        root = self._root()
        if root is None or not (self.folder / TIMESTAMP).exists():
            return None
        try:
            timestamp = self._trusted(root, Timestamp, TIMESTAMP)
            snapshot = self._trusted(root, Snapshot, f"{timestamp.snapshot_meta.version}.snapshot.json")
            targets = self._trusted(root, Targets, f"{snapshot.meta[TARGETS].version}.{TARGETS}")
        except (OSError, RepositoryError, KeyError) as error:
            raise InvalidModel(
                f"what {self.folder} holds is not what was published: {error}; bring back a copy of it, or remove it "
                "and publish everything again with the same keys"
            ) from None
        return State(timestamp.version, targets.targets)

    def commit(self, before: State | None, targets: Mapping[str, TargetFile], now: datetime, expires: datetime) -> None:
        """Publish a new state. Raises as ``read``, and ``OSError``: the state before is published still."""
        durable.make_folder(self.folder)
        self._renew_root(now)
        version = max(before.version + 1 if before else 1, int(now.timestamp()))
        listed = self._put(f"{version}.{TARGETS}", Targets(version, expires=expires, targets=dict(targets)))
        snapshot = Snapshot(version, expires=expires, meta={TARGETS: _meta(version, listed)})
        listed = self._put(f"{version}.snapshot.json", snapshot)
        self._put(TIMESTAMP, Timestamp(version, expires=expires, snapshot_meta=_meta(version, listed)))

    def _renew_root(self, now: datetime) -> None:
        """The first root, or another one when the newest will expire."""
        newest = self._root()
        if newest is not None and newest.expires - now > ROOT_RENEWED:
            return
        if newest is None:
            newest = Root(version=1, consistent_snapshot=True)
            for role in ROLES:
                newest.add_key(self._signers.signer(role).public_key, role)
        else:
            newest.version += 1
        newest.expires = now + ROOT_LASTS
        self._put(f"{newest.version}.root.json", newest)

    def _root(self) -> Root | None:
        """The newest root; its keys must be ours."""
        numbers = [int(path.name.split(".")[0]) for path in self.folder.glob("[0-9]*.root.json")]
        if not numbers:
            return None
        path = self.folder / f"{max(numbers)}.root.json"
        try:
            root = Metadata[Root].from_bytes(path.read_bytes()).signed
        except (OSError, RepositoryError) as error:
            raise InvalidModel(f"{path} is no root metadata: {error}") from None
        if any(self._signers.signer(role).public_key.keyid not in root.roles[role].keyids for role in ROLES[1:]):
            raise InvalidSettings(
                f"{self.folder} was begun with other keys than those in {self._signers.folder}: "
                "give the folder with the right ones by --keys"
            )
        return root

    def _trusted(self, root: Root, kind: type[T], name: str) -> T:
        """Metadata of one role. Raises ``RepositoryError`` where the root's keys did not sign it."""
        metadata = Metadata[T].from_bytes((self.folder / name).read_bytes())
        root.verify_delegate(kind.type, metadata.signed_bytes, metadata.signatures)
        return metadata.signed

    def _put(self, name: str, signed: T) -> bytes:
        """Sign and write; the bytes."""
        metadata = Metadata(signed)
        metadata.sign(self._signers.signer(signed.type))
        content = metadata.to_bytes()
        durable.write(self.folder / name, content)
        return content


def _meta(version: int, content: bytes) -> MetaFile:
    return MetaFile.from_data(version, content, ["sha256"])


def utc(seconds: float) -> datetime:
    """As metadata has it: in UTC, to the second."""
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=0)
