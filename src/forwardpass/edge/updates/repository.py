"""A repository of updates: signed metadata, releases and chunks, as plain files for any web server.

    DIR/metadata/    what devices believe; see ``metadata.py``
    DIR/targets/     <channel>/<target>/<digest>.<model>.json: a release
    DIR/chunks/      <digest>: a stretch of a bundle

Chunks are written first and what names them last, each all at once: whoever reads meanwhile sees what was
published before, whole. Knows no devices, and no keys but those handed in.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import TargetFile  # type: ignore[attr-defined]

from forwardpass.edge import durable
from forwardpass.edge.bundle import Examination, examine
from forwardpass.edge.updates.chunks import Stretch, cut_bundle
from forwardpass.edge.updates.metadata import MetadataFolder, State, utc
from forwardpass.edge.updates.pruning import Pruned, prune
from forwardpass.edge.updates.release import Chunk, Release, decode_release, encode_release, release_path
from forwardpass.edge.updates.signers import Signers
from forwardpass.edge.versions import version_order
from forwardpass.errors import InvalidInput, InvalidModel, InvalidSettings

INLINE = 512  # bytes up to which a chunk is in the release itself: a request would cost more


@dataclass(frozen=True)
class Published:
    """What was published, and until when it holds.

    ``chunks`` that devices ask for, of which ``new_bytes`` were not there. ``older``: than what was published before.
    """

    release: Release
    path: str
    chunks: int
    new_bytes: int
    expires: datetime
    older: bool


class Repository:
    """The repository in a folder. Raises ``InvalidSettings`` where the keys would be served with it.

    Its methods raise as those of ``MetadataFolder``, and ``InvalidSettings`` where files cannot be written.
    """

    def __init__(self, folder: Path, signers: Signers, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._metadata = MetadataFolder(folder / "metadata", signers)
        self._clock = clock
        if signers.folder.resolve().is_relative_to(folder.resolve()):
            raise InvalidSettings(f"the keys in {signers.folder} would be served with {folder}: keep them elsewhere")

    @property
    def first_root(self) -> Path:
        """What every device must have, by a way that is trusted."""
        return self._metadata.folder / "1.root.json"

    def publish(self, bundle: Path, channel: str, lasting: timedelta, force: bool = False) -> Published:
        """Make a bundle the one that devices of this channel should run. The metadata holds for ``lasting``.

        Raises ``InvalidModel`` for what is no whole bundle, and ``InvalidInput`` for a version that is not newer
        than the one that is published, unless ``force``.
        """
        now = utc(self._clock())
        release, stretches = _cut(bundle, examine(bundle, {}), now)
        path = release_path(channel, release.target, release.model)
        with self._locked(begin=True):
            state = self._metadata.read()
            older = self._check_version(state, path, release, channel, force)
            new_bytes = self._write_chunks(release, stretches)
            targets = {**(state.targets if state else {}), path: self._write_release(release, path)}
            self._metadata.commit(state, targets, now, now + lasting)
        asked = sum(chunk.inline is None for chunk in release.chunks)
        return Published(release, path, asked, new_bytes, now + lasting, older)

    def refresh(self, lasting: timedelta, new_keys: Sequence[str] = ()) -> datetime:
        """Sign what is published again, so that it holds for ``lasting`` from now on; until when.

        ``new_keys`` are roles that get another key, which devices believe from their next look on: that needs the root
        key, and where it was cut off it must be said again.
        """
        now = utc(self._clock())
        with self._locked():
            state = self._published(new_keys)
            self._metadata.commit(state, state.targets, now, now + lasting, new_keys)
        return now + lasting

    def prune(self, keep: int) -> Pruned:
        """Remove what is past but for the newest ``keep`` of each, see ``pruning``."""
        with self._locked():
            state = self._published()
            for path in state.targets:
                self._before(state, path)  # nothing is removed where what is published is damaged
            return prune(self._folder, state, keep)

    def _published(self, replaced: Sequence[str] = ()) -> State:
        """What is published now."""
        state = self._metadata.read(replaced)
        if state is None:
            raise self._nothing()
        return state

    def _nothing(self) -> InvalidSettings:
        return InvalidSettings(f"nothing is published in {self._folder}")

    def _check_version(self, state: State | None, path: str, release: Release, channel: str, force: bool) -> bool:
        """Whether the release is older than the one that is published."""
        before = self._before(state, path)
        if before is None:
            return False
        new, old = version_order(release.version), version_order(before.version)
        if new <= old and not force:
            raise InvalidInput(
                f"{channel} has {before} already: give what you publish a newer version, or say --force "
                "(devices that run a newer version refuse an older one all the same)"
            )
        return new < old

    def _before(self, state: State | None, path: str) -> Release | None:
        """What is published under this path now."""
        target = state.targets.get(path) if state else None
        if target is None:
            return None
        file = self._target_file(path, target)
        try:
            content = file.read_bytes()
            target.verify_length_and_hashes(content)
        except (OSError, RepositoryError) as error:
            raise InvalidModel(f"{file} is not what was published: {error}; bring back a copy of it") from None
        return decode_release(content)

    def _write_release(self, release: Release, path: str) -> TargetFile:
        content = encode_release(release)
        target = TargetFile.from_data(path, content, ["sha256"])
        file = self._target_file(path, target)
        durable.make_folder(file.parent)
        durable.write(file, content)
        return target

    def _target_file(self, path: str, target: TargetFile) -> Path:
        folder, _, name = path.rpartition("/")
        return self._folder / "targets" / folder / f"{target.hashes['sha256']}.{name}"

    def _write_chunks(self, release: Release, stretches: list[Stretch]) -> int:
        """Write the chunks that are not there; how many bytes that was."""
        durable.make_folder(self._folder / "chunks")
        written = 0
        for chunk, stretch in zip(release.chunks, stretches, strict=True):
            file = self._folder / "chunks" / chunk.sha256
            if chunk.inline is None and not _holds(file, chunk):
                durable.write(file, stretch.read())
                written += chunk.size
        return written

    @contextmanager
    def _locked(self, begin: bool = False) -> Iterator[None]:
        """One publisher at a time, the next one waits. The folder is made only to ``begin`` with."""
        if not begin and not self._folder.is_dir():
            raise self._nothing()
        try:
            durable.make_folder(self._folder)
            descriptor = os.open(self._folder, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield
            finally:
                os.close(descriptor)
        except OSError as error:
            raise InvalidSettings(f"cannot publish to {self._folder}: {error.strerror or error}") from None


def _cut(bundle: Path, found: Examination, now: datetime) -> tuple[Release, list[Stretch]]:
    """The release of a bundle, and where its chunks are read from."""
    whole, chunks, stretches = hashlib.sha256(), [], cut_bundle(bundle)
    for stretch in stretches:
        content = stretch.read()
        whole.update(content)
        inline = content if stretch.size <= INLINE else None
        chunks.append(Chunk(hashlib.sha256(content).hexdigest(), stretch.size, inline))
    manifest = found.manifest
    release = Release(
        name=manifest.name,
        model=manifest.model,
        version=manifest.version,
        target=manifest.target,
        size=sum(chunk.size for chunk in chunks),
        sha256=whole.hexdigest(),
        manifest=found.digest,
        chunks=tuple(chunks),
        published=now,
    )
    return release, stretches


def _holds(file: Path, chunk: Chunk) -> bool:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest() == chunk.sha256
    except FileNotFoundError:
        return False
