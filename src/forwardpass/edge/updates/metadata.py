"""The metadata of a repository: read with suspicion, signed and written in the order that keeps it whole.

    DIR/metadata/    N.root.json, N.targets.json, N.snapshot.json, timestamp.json

``timestamp.json`` is what devices begin with, and is replaced last: until then they see the state before. States
are numbered by the time, so that a repository that was lost can be begun again with the same keys. Knows no
releases: of a target, its path, size and digest.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]
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
from forwardpass.errors import InvalidModel

ROOT_LASTS = timedelta(days=3650)
ROOT_RENEWED = timedelta(days=365)  # before it expires
TIMESTAMP = "timestamp.json"
SNAPSHOT = "snapshot.json"
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

    def read(self, replaced: Collection[str] = ()) -> State | None:
        """What is published now, found the way that devices find it; None before the first time.

        ``replaced`` are roles whose keys are about to be: those need not be here, and what an earlier root trusts will
        do too, for a replacement before this one may have been cut off after its root.
        Raises ``InvalidSettings`` where it was begun with other keys, ``InvalidModel`` where it was not signed so.
        """
        numbers = self._roots()
        if not numbers:
            return None
        newest = self._root(numbers[0])
        for role in ROLES[1:]:
            if role not in replaced:
                self._signer(newest, role)
        if not (self.folder / TIMESTAMP).exists():
            return None
        wrong: list[Exception] = []
        for number in numbers if replaced else numbers[:1]:
            try:
                return self._state(self._root(number))
            except (OSError, RepositoryError, KeyError) as error:
                wrong.append(error)
        raise InvalidModel(
            f"what {self.folder} holds is not what was published: {wrong[0]}; where --new-keys was cut off, say it "
            "again, else bring back a copy of the folder, or remove it and publish everything again with the same keys"
        )

    def commit(
        self,
        before: State | None,
        targets: Mapping[str, TargetFile],
        now: datetime,
        expires: datetime,
        replaced: Sequence[str] = (),
    ) -> None:
        """Publish a new state, with new keys for the roles ``replaced``.

        Raises as ``read``, and ``OSError``: the state before is published still.
        """
        durable.make_folder(self.folder)
        root, signers = self._next_root(now, replaced)
        version = max(before.version + 1 if before else 1, int(now.timestamp()))
        listed = self._put(f"{version}.{TARGETS}", Targets(version, expires=expires, targets=dict(targets)), root)
        snapshot = Snapshot(version, expires=expires, meta={TARGETS: _meta(version, listed)})
        listed = self._put(f"{version}.{SNAPSHOT}", snapshot, root)
        if signers:
            self._write(f"{root.version}.root.json", root, signers)
        self._put(TIMESTAMP, Timestamp(version, expires=expires, snapshot_meta=_meta(version, listed)), root)

    def _next_root(self, now: datetime, replaced: Sequence[str]) -> tuple[Root, list[CryptoSigner]]:
        """The root from now on, and those who must sign it: nobody where it is the newest one already.

        Another one is made where keys are replaced, or where the newest will expire. The root before it signs as well:
        so devices follow from one to the next.
        """
        numbers = self._roots()
        if not numbers:
            root, signers = Root(version=1, consistent_snapshot=True), []
            keys = {role: self._signers.signer(role) for role in ROLES}
        else:
            root = self._root(numbers[0])
            if not replaced and root.expires - now > ROOT_RENEWED:
                return root, []
            signers = [self._signer(root, "root")]
            root.version += 1
            keys = {role: self._signers.add(role) for role in replaced}
        for role, key in keys.items():
            for old in list(root.roles[role].keyids):
                root.revoke_key(old, role)
            root.add_key(key.public_key, role)
        root.expires = now + ROOT_LASTS
        return root, [*signers, *([keys["root"]] if "root" in keys else [])]

    def _roots(self) -> list[int]:
        """The numbers of all roots, the newest first."""
        return sorted((int(path.name.split(".")[0]) for path in self.folder.glob("[0-9]*.root.json")), reverse=True)

    def _root(self, number: int) -> Root:
        path = self.folder / f"{number}.root.json"
        try:
            return Metadata[Root].from_bytes(path.read_bytes()).signed
        except (OSError, RepositoryError) as error:
            raise InvalidModel(f"{path} is no root metadata: {error}") from None

    def _signer(self, root: Root, role: str) -> CryptoSigner:
        """Our key for a role, which the root must name. Raises ``InvalidSettings``."""
        return self._signers.signer(role, root.roles[role].keyids)

    def _state(self, root: Root) -> State:
        timestamp = self._trusted(root, Timestamp, TIMESTAMP)
        snapshot = self._trusted(root, Snapshot, f"{timestamp.snapshot_meta.version}.{SNAPSHOT}")
        targets = self._trusted(root, Targets, f"{snapshot.meta[TARGETS].version}.{TARGETS}")
        return State(timestamp.version, targets.targets)

    def _trusted(self, root: Root, kind: type[T], name: str) -> T:
        """Metadata of one role. Raises ``RepositoryError`` where the root's keys did not sign it."""
        metadata = Metadata[T].from_bytes((self.folder / name).read_bytes())
        root.verify_delegate(kind.type, metadata.signed_bytes, metadata.signatures)
        return metadata.signed

    def _put(self, name: str, signed: T, root: Root) -> bytes:
        """Sign with the key that the root names, and write; the bytes."""
        return self._write(name, signed, [self._signer(root, signed.type)])

    def _write(self, name: str, signed: T, signers: Sequence[CryptoSigner]) -> bytes:
        metadata = Metadata(signed)
        for signer in signers:
            metadata.sign(signer, append=True)
        content = metadata.to_bytes()
        durable.write(self.folder / name, content)
        return content


def _meta(version: int, content: bytes) -> MetaFile:
    return MetaFile.from_data(version, content, ["sha256"])


def utc(seconds: float) -> datetime:
    """As metadata has it: in UTC, to the second."""
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=0)
