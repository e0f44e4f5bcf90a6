"""Files of the file system, by path or ``file://`` URL.

A file gets its name by a rename or a hard link once all of its content is on the disk, so neither a
reader nor a crash sees half of it. Knows no formats and no jobs.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from glob import escape
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from forwardpass.errors import InvalidInput, NotFound
from forwardpass.jobs.storage import glob
from forwardpass.jobs.storage.base import Entry, Storage

_REFUSED = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP,
}  # fmt: skip


class LocalStorage(Storage):
    """The file system. A file's version is the time of its last change, in nanoseconds."""

    def list(self, name: str) -> list[Entry]:
        with _telling("list", name):
            path = local_path(name)
            entry = _entry(path)
            if entry is not None:
                return [entry]
            entries = _search(path, glob.EVERYTHING) if path.is_dir() else _search(*_glob(path))
        if not entries:
            raise NotFound(f"no file at {name}: {_why_none(path)}")
        return entries

    def find(self, name: str) -> Entry | None:
        with _telling("look at", name):
            return _entry(local_path(name))

    def open(self, name: str) -> BinaryIO:
        with _telling("read", name):
            return open(local_path(name), "rb")

    def publish(self, local: Path, name: str) -> None:
        with _telling("write", name):
            path = local_path(name)
            _make_folder(path.parent)
            _sync(local)
            try:
                os.replace(local, path)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                _move_across(local, path)
            _sync(path.parent)

    def create(self, name: str, content: bytes) -> bool:
        with _telling("write", name):
            path = local_path(name)
            _make_folder(path.parent)
            written = _beside(path)
            try:
                _write(written, content)
                os.link(written, path)
            except FileExistsError:
                return False
            finally:
                written.unlink(missing_ok=True)
            _sync(path.parent)
            return True

    def delete(self, name: str) -> None:
        with _telling("delete", name):
            local_path(name).unlink(missing_ok=True)

    def temporary(self, name: str) -> Path:
        """A hidden name beside the target, so that publishing is a rename; folders are made."""
        path = local_path(name)
        with _telling("write", name):
            _make_folder(path.parent)
        return _beside(path)

    def sweep(self, name: str) -> None:
        path = local_path(name)
        for left in path.parent.glob(f".{escape(path.name)}.*.tmp"):
            left.unlink(missing_ok=True)


def local_path(name: str) -> Path:
    """The path that a path or ``file://`` URL means. Raises ``InvalidInput`` where the URL names another machine."""
    if not name.startswith("file://"):
        path = name
    else:
        url = urlsplit(name.replace("?", "%3F").replace("#", "%23"))
        if url.netloc not in ("", "localhost"):
            raise InvalidInput(f"{name} names the machine {url.netloc!r}: write file:///path, or a plain path")
        path = unquote(url.path)
    if not path or "\0" in path:
        raise InvalidInput(f"{name!r} is not the name of a file: give a path")
    return Path(path)


def _entry(path: Path) -> Entry | None:
    """Of a regular file; links are followed."""
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return Entry(str(path), status.st_size, str(status.st_mtime_ns)) if stat.S_ISREG(status.st_mode) else None


def _glob(path: Path) -> tuple[Path, tuple[str, ...]]:
    folder, pattern = glob.split(str(path))
    return Path(folder or ("/" if path.is_absolute() else ".")), pattern


def _search(folder: Path, pattern: tuple[str, ...]) -> list[Entry]:
    """The files under a folder that a pattern means. A link back to a folder that it lies in is not entered."""
    entries = []
    for where, folders, files in os.walk(folder, onerror=_raise, followlinks=True):
        inside = Path(where).relative_to(folder).parts
        folders[:] = [
            name
            for name in folders
            if glob.matches((*inside, name), pattern, inside=True) and not _is_circle(Path(where, name))
        ]
        for name in files:
            if glob.matches((*inside, name), pattern):
                entry = _entry(Path(where, name))
                if entry is None:
                    _refuse_dangling(Path(where, name))
                else:
                    entries.append(entry)
    return sorted(entries, key=lambda entry: entry.name)


def _is_circle(folder: Path) -> bool:
    return folder.is_symlink() and folder.parent.resolve().is_relative_to(folder.resolve())


def _raise(error: OSError) -> None:
    """A folder that cannot be read is not an empty one; one that is not there is."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def _refuse_dangling(path: Path) -> None:
    """A link to nothing would be rows left out in silence; pipes and sockets hold none."""
    if path.is_symlink() and not path.exists():
        raise NotFound(f"{path} is a link to {os.readlink(path)}, which is not there: remove the link, or mend it")


def _why_none(path: Path) -> str:
    if path.is_dir():
        return "the folder holds none (names that begin with '.' or '_' are left out)"
    if path.exists():
        return "it is neither a file nor a folder"
    if _glob(path)[1]:
        return "nothing matches ('*' stays within one folder and means files, '**' crosses folders)"
    return "check the path"


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")


def _move_across(local: Path, path: Path) -> None:
    """Rename cannot leave a file system: copy beside the target, then rename."""
    copy = _beside(path)
    try:
        shutil.copyfile(local, copy)
        _sync(copy)
        os.replace(copy, path)
    finally:
        copy.unlink(missing_ok=True)
    local.unlink()


def _make_folder(folder: Path) -> None:
    """With its parents, each durable."""
    if not folder.is_dir() and folder != folder.parent:
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync(folder.parent)


def _write(path: Path, content: bytes) -> None:
    with open(path, "xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(path: Path) -> None:
    """Onto the disk: the content of a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _telling(doing: str, name: str) -> Iterator[None]:
    """Errors of the system as those of the contract, naming the file and what was tried."""
    try:
        yield
    except FileNotFoundError as error:
        raise NotFound(f"no such file: {error.filename or name}") from None
    except OSError as error:
        where = f" ({error.filename})" if error.filename and str(error.filename) != name else ""
        message = f"cannot {doing} {name}: {error.strerror or error}{where}"
        if error.errno in _REFUSED:
            raise InvalidInput(message) from None
        raise OSError(error.errno, message) from None
