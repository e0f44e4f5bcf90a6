"""What a device is told by a repository, believed only where The Update Framework says so.

Metadata that was tampered with, that has expired, or that is older than what was seen before is refused, with
a reason for people. Keeps what was seen in the home, for the next time. Knows no slots.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from forwardpass.edge import durable
from forwardpass.edge.distribution import HERE
from forwardpass.edge.updates.release import MOST_BYTES, Chunk, Release, decode_release
from forwardpass.errors import InvalidModel, InvalidSettings, NotReady

if TYPE_CHECKING:
    from forwardpass.edge.updates.fetch import Fetcher

ROOT = "root.json"
_COPY_IT = "copy it there from where the updates are published (metadata/1.root.json), by a way you trust"
CLOCK_ERROR = timedelta(days=1)  # by which the clocks of publisher and device may differ


class Client:
    """One look at a repository, for one thread: make another for the next.

    ``folder`` is that of the updates in the home. Raises ``InvalidSettings`` where something is
    missing: the library, or ``root.json``, by which all else is believed; ``latest`` where that is damaged.
    """

    def __init__(
        self, url: str, folder: Path, fetcher: Fetcher | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        require_library()
        from forwardpass.edge.updates.fetch import Fetcher

        self._url = url.rstrip("/")
        self._folder = folder
        self._root = read_root(folder)
        self._fetcher = fetcher or Fetcher(url)
        self._clock = clock

    def stop(self) -> None:
        """From any thread: what is under way fails soon."""
        self._fetcher.stop()

    def latest(self, path: str) -> Release | None:
        """The release that devices should run now; None where there is none for this channel, target and model.

        Raises ``NotReady`` where the repository cannot be reached, ``InvalidModel`` where what it says is refused.
        """
        from tuf.api.exceptions import DownloadError, RepositoryError

        try:
            content = self._download(path)
        except RepositoryError as error:
            raise InvalidModel(f"update refused: {_why(error)}{self._hint(error)}") from None
        except DownloadError as error:
            raise NotReady(f"the updates cannot be read: {_why(error)}{self._hint(error)}") from None
        if content is None:
            return None
        release = decode_release(content)
        if self._now() < release.published - CLOCK_ERROR:
            raise InvalidModel(
                f"update refused: {release} was published {release.published:%Y-%m-%d}, in the future; {self._date()}"
            )
        return release

    def chunk(self, chunk: Chunk) -> bytes:
        """The bytes of a chunk. Raises as ``latest``."""
        from tuf.api.exceptions import DownloadError

        url = f"{self._url}/chunks/{chunk.sha256}"
        try:
            content = self._fetcher.get(url, chunk.size)
        except DownloadError as error:
            raise NotReady(f"the update cannot be downloaded: {_why(error)}") from None
        if hashlib.sha256(content).hexdigest() != chunk.sha256:
            raise InvalidModel(f"update refused: {url} is not what the release says it is")
        return content

    def _download(self, path: str) -> bytes | None:
        from tuf.api.exceptions import RepositoryError
        from tuf.ngclient import Updater  # type: ignore[attr-defined]

        metadata = self._folder / "metadata"
        durable.make_folder(metadata)
        for left in metadata.glob("tmp*"):  # by the library, where the device lost power while it wrote
            left.unlink()
        try:
            updater = Updater(
                str(metadata),
                f"{self._url}/metadata",
                target_base_url=f"{self._url}/targets",
                fetcher=self._fetcher,
                bootstrap=self._root,
            )
        except RepositoryError as error:
            raise InvalidSettings(f"{self._folder / ROOT} is no root metadata: {_why(error)}; {_COPY_IT}") from None
        info = updater.get_targetinfo(path)
        if info is None:
            return None
        if info.length > MOST_BYTES:
            raise InvalidModel(f"update refused: a release of {info.length} bytes; at most {MOST_BYTES} are taken")
        kept = str(self._folder / "release.json")
        if updater.find_cached_target(info, kept) is None:
            updater.download_target(info, kept)
        return Path(kept).read_bytes()

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)

    def _hint(self, error: Exception) -> str:
        """The date, where a wrong clock may be what is the matter: of what has expired, and of certificates."""
        from tuf.api.exceptions import ExpiredMetadataError

        dated = isinstance(error, ExpiredMetadataError) or "certificate" in str(error).lower()
        return f"; {self._date()}" if dated else ""

    def _date(self) -> str:
        return f"the device's clock says {self._now():%Y-%m-%d %H:%M} UTC, set it if that is wrong"


def require_library() -> None:
    """Raises ``InvalidSettings`` where what updates need is not installed. Does not load it: that takes 12 MB."""
    if find_spec("tuf") is None:
        raise InvalidSettings(f"updates need the library tuf, which is not installed: {HERE.how_to_get('updates')}")


def read_root(folder: Path) -> bytes:
    """What the publisher's keys are. Raises ``InvalidSettings`` where it was not put there."""
    try:
        return (folder / ROOT).read_bytes()
    except OSError as error:
        raise InvalidSettings(f"{folder / ROOT}: {error.strerror or error}; {_COPY_IT}") from None


def _why(error: Exception) -> str:
    """One line for people from an error of the library."""
    from tuf.api import exceptions

    cause = error.__cause__ if type(error) is exceptions.DownloadError and error.__cause__ else error
    kinds = {
        exceptions.ExpiredMetadataError: "it has expired and was not renewed, or is withheld",
        exceptions.BadVersionNumberError: "it is older than what was seen before",
        exceptions.UnsignedMetadataError: "it is not signed by the publisher",
        exceptions.LengthOrHashMismatchError: "it is not what was signed",
    }
    said = next((text for kind, text in kinds.items() if isinstance(error, kind)), "")
    text = " ".join(str(cause).split())[:300] or type(cause).__name__
    return f"{said} ({text})" if said else text
