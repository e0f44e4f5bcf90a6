"""Objects of an object store, by URL: ``s3://bucket/key``, ``gs://…``, ``az://…``.

Account and keys come from the environment, as the stores' own tools read them. Every request has a
time limit and few retries. Knows no formats and no jobs; the one module that knows ``obstore``, whose
threads do not survive a fork: use a storage only in the process that first used one.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import os
import secrets
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import obstore
from obstore import exceptions
from obstore.store import from_url

from forwardpass.errors import InvalidInput, NotFound, nearest
from forwardpass.jobs.storage import glob
from forwardpass.jobs.storage.base import Entry, Storage

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

_SCHEMES = ("s3", "s3a", "gs", "az", "azure", "adl", "abfs", "abfss")
_UPLOAD = 8 << 20  # bytes of a request that writes a part of an object
_WHOLE = 64 << 20  # bytes of an object that is written by one request, held in memory; larger ones go in parts
_PARTS = 9_000  # of an object; S3 takes 10,000
_AHEAD_LEAST, _AHEAD_MOST = 64 << 10, 8 << 20  # bytes read ahead: after a seek, and reading on and on
_RETRY: RetryConfig = {
    "max_retries": 5,
    "retry_timeout": timedelta(seconds=30),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=3), "base": 2},
}
_CREDENTIALS = (
    "S3: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; Google: GOOGLE_SERVICE_ACCOUNT; "
    "Azure: AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY"
)
# the places that are asked where the environment says nothing, and Azure's own word
_NO_CREDENTIALS = ("169.254.169.254", "metadata.google.internal", "MissingAccount")


class ObjectStorage(Storage):
    """One object store, or several. An object's version is its etag.

    A folder is what the keys' slashes make of it. Keys are taken as they stand, with nothing quoted.
    """

    def __init__(self, url: str) -> None:
        _split(url)

    def list(self, name: str) -> list[Entry]:
        base, key = _split(name)
        entry = self.find(name) if key and not key.endswith("/") else None
        if entry is not None:
            return [entry]
        folder, pattern = glob.split(key.strip("/"))
        with _telling("list", name):
            entries = [_entry(base, found) for found in _walk(base, folder, pattern or glob.EVERYTHING)]
        if not entries:
            raise NotFound(
                f"no file at {name}: check it ('*' stays within one folder and means files, '**' crosses folders; "
                f"names that begin with '.' or '_' are left out)"
            )
        return sorted(entries, key=lambda entry: entry.name)

    def find(self, name: str) -> Entry | None:
        base, key = _split(name)
        try:
            with _telling("look at", name):
                return _entry(base, obstore.head(_store(base), key))
        except NotFound:
            return None

    def open(self, name: str) -> BinaryIO:
        base, key = _split(name)
        with _telling("read", name):
            found = obstore.head(_store(base), key)
        return cast(BinaryIO, io.BufferedReader(_Reader(name, found["size"], found["e_tag"]), _AHEAD_LEAST))

    def read(self, name: str) -> bytes:
        base, key = _split(name)
        with _telling("read", name):
            return bytes(obstore.get(_store(base), key).bytes())

    def publish(self, local: Path, name: str) -> None:
        """Large objects are sent in parts, and appear when the last has arrived.

        Those cannot be sent on a condition: the name is looked at before, so that of two that send at
        the same moment the second wins.
        """
        base, key = _split(name)
        size = local.stat().st_size
        try:
            with _telling("write", name):
                if size <= _WHOLE:
                    obstore.put(_store(base), key, local, mode="create", use_multipart=False)
                elif self.find(name) is None:
                    chunk = max(_UPLOAD, size // _PARTS)
                    obstore.put(_store(base), key, local, chunk_size=chunk, max_concurrency=4)
                else:
                    self._require_same(local, name)
        except exceptions.AlreadyExistsError:  # perhaps one's own, where an answer was lost and it was sent again
            self._require_same(local, name)
        local.unlink()

    def _require_same(self, local: Path, name: str) -> None:
        with local.open("rb") as ours, self.open(name) as theirs:
            digests = {hashlib.file_digest(cast(io.BufferedReader, file), "sha256").digest() for file in (ours, theirs)}
        if len(digests) > 1:
            raise InvalidInput(
                f"{name}: is there already, with other content than was to be written; another run may be writing it, "
                "or wrote it with another version or processor. If none is, remove it and go on"
            )

    def create(self, name: str, content: bytes) -> bool:
        """Where a connection broke and the request was sent again, False may mean one's own content.

        Who must know reads it.
        """
        base, key = _split(name)
        try:
            with _telling("write", name):
                obstore.put(_store(base), key, content, mode="create")
        except exceptions.AlreadyExistsError:
            return False
        return True

    def delete(self, name: str) -> None:
        base, key = _split(name)
        with contextlib.suppress(NotFound), _telling("delete", name):
            obstore.delete(_store(base), key)

    def temporary(self, name: str) -> Path:
        return Path(tempfile.gettempdir(), f"{_left(name)}.{secrets.token_hex(8)}.tmp")

    def sweep(self, name: str) -> None:
        for left in Path(tempfile.gettempdir()).glob(f"{escape(_left(name))}.*.tmp"):
            left.unlink(missing_ok=True)


def _left(name: str) -> str:
    """How the local files begin from which an object is written."""
    return f".{name.rpartition('/')[2]}.{hashlib.sha256(name.encode()).hexdigest()[:16]}"


class _Reader(io.RawIOBase):
    """One object, by ranges. Reads ahead little after a seek, and more and more where it reads on.

    Raises ``InvalidInput`` where the object was replaced since it was opened.
    """

    def __init__(self, name: str, size: int, etag: str | None) -> None:
        self._name, self._size, self._etag = name, size, etag
        self._at = 0
        self._start, self._held = 0, memoryview(b"")  # what was fetched, and where that begins
        self._ahead = _AHEAD_LEAST

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise ValueError(f"cannot seek to {start + offset}, before the start of {self._name}")
        self._at = start + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        into = memoryview(buffer).cast("B")
        wanted = min(len(into), max(0, self._size - self._at))
        if wanted == 0:
            return 0
        if not self._start <= self._at < self._start + len(self._held):
            self._fetch(wanted)
        begin = self._at - self._start
        got = self._held[begin : begin + wanted]
        into[: len(got)] = got
        self._at += len(got)
        return len(got)

    def _fetch(self, wanted: int) -> None:
        goes_on = self._at == self._start + len(self._held)
        self._ahead = min(self._ahead * 2, _AHEAD_MOST) if goes_on and self._at else _AHEAD_LEAST
        end = min(self._at + wanted + self._ahead, self._size)
        base, key = _split(self._name)
        self._held = memoryview(b"")  # not two at a time in memory
        with _telling("read", self._name):
            answer = obstore.get(_store(base), key, options={"range": (self._at, end), "if_match": self._etag})
            self._held = memoryview(answer.bytes()).cast("B")
        self._start = self._at


def _split(url: str) -> tuple[str, str]:
    """The bucket's URL, and the key. Raises ``InvalidInput`` for a URL of something else."""
    scheme, _, rest = url.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme not in _SCHEMES:
        raise InvalidInput(f"cannot read or write {url}: {scheme!r} is no storage.{nearest(scheme, _SCHEMES)}")
    if not bucket:
        raise InvalidInput(f"{url} names no bucket: write {scheme}://bucket/key")
    return f"{scheme}://{bucket}", key


def _store(base: str) -> ObjectStore:
    """The store of a bucket. In a process that was forked after another had used one, it would wait for ever."""
    if _first_process() != os.getpid():
        raise RuntimeError("object stores were used before this process was forked: fork first, or spawn it")
    return _connect(base)


@functools.cache
def _first_process() -> int:
    return os.getpid()


@functools.cache
def _connect(base: str) -> ObjectStore:
    """With its connections; nothing is sent yet."""
    client: ClientConfig = {
        "connect_timeout": timedelta(seconds=10),
        "read_timeout": timedelta(seconds=60),
        "timeout": timedelta(minutes=5),
    }
    if _endpoint(base).startswith("http://"):  # who writes http means it
        client["allow_http"] = True
    return from_url(base, client_options=client, retry_config=_RETRY)


def _endpoint(base: str) -> str:
    if not base.startswith("s3"):
        return ""
    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
    return next((os.environ[name] for name in names if os.environ.get(name)), "")


def _walk(base: str, folder: str, pattern: tuple[str, ...]) -> Iterator[ObjectMeta]:
    """The objects under a folder that a pattern means."""
    depth = len(folder.split("/")) if folder else 0
    for found in (found for some in obstore.list(_store(base), folder or None, chunk_size=1000) for found in some):
        if glob.matches(found["path"].split("/")[depth:], pattern) and not _is_marker(base, found):
            yield found


def _is_marker(base: str, found: ObjectMeta) -> bool:
    """Whether it is the empty object ``folder/`` that consoles make; it is listed without its slash."""
    if found["size"] > 0:
        return False
    try:
        obstore.head(_store(base), found["path"])
    except FileNotFoundError:
        return True
    return False


def _entry(base: str, found: ObjectMeta) -> Entry:
    version = found["e_tag"] or found["version"] or found["last_modified"].isoformat()
    return Entry(f"{base}/{found['path']}", found["size"], version.strip('"'))


@contextlib.contextmanager
def _telling(doing: str, name: str) -> Iterator[None]:
    """Errors of the store as those of the contract, naming the URL and what to do.

    ``AlreadyExistsError`` passes: it is an answer.
    """
    try:
        yield
    except exceptions.AlreadyExistsError:
        raise
    except (exceptions.BaseError, FileNotFoundError, ValueError) as error:
        raise _explained(f"cannot {doing} {name}", str(error)[:600], error) from None


def _explained(what: str, text: str, error: Exception) -> Exception:
    """The error of the contract; a store tells some kinds by text only."""
    reason = text.partition("\n")[0]
    if "NoSuchBucket" in text or "ContainerNotFound" in text:
        return InvalidInput(f"{what}: no such bucket. Make it, or check the name and the endpoint")
    if any(sign in text for sign in _NO_CREDENTIALS):
        return InvalidInput(f"{what}: no credentials. Set them in the environment ({_CREDENTIALS})")
    if isinstance(error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError):
        return InvalidInput(f"{what}: refused. Check the credentials and what they permit ({reason})")
    if isinstance(error, exceptions.PreconditionError):
        return InvalidInput(f"{what}: it was replaced while it was read. Start again when nothing writes to it")
    if isinstance(error, FileNotFoundError):
        return NotFound(f"{what}: no such file")
    if isinstance(error, exceptions.InvalidPathError | exceptions.UnknownConfigurationKeyError | ValueError):
        return InvalidInput(f"{what}: {reason}")
    return OSError(f"{what}: {reason}. Check the network, the endpoint and the region (AWS_ENDPOINT_URL, AWS_REGION)")
