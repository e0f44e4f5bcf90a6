"""Loss of power after any number of operations on the disk: what was not put onto it by then is lost or torn.

Stands between the program and the system's own calls. ``fsync`` is noted and not done, so that it costs nothing.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


class PowerLoss(BaseException):
    """Nothing may run after this, as if the process were gone."""


class Disk:
    """Stops everything after ``most`` operations on files under ``folder``."""

    def __init__(self, folder: Path, most: int) -> None:
        self.done: list[str] = []
        self._folder = str(folder)
        self._most = most
        self._unwritten: set[str] = set()  # files whose content is not on the disk
        self._new: set[str] = set()  # names that are not on the disk
        self._replaced: dict[str, bytes | None] = {}  # what would be there again under the name

    def watch(self, patch: pytest.MonkeyPatch) -> None:
        """From now on, until ``patch`` is undone."""
        patch.setattr(io, "open", self._open(io.open))
        patch.setattr("builtins.open", self._open(open))
        patch.setattr(os, "open", self._os_open(os.open))
        patch.setattr(os, "replace", self._replace(os.replace))
        patch.setattr(os, "mkdir", self._mkdir(os.mkdir))
        patch.setattr(os, "pwrite", self._pwrite(os.pwrite))
        patch.setattr(os, "fsync", self._fsync)
        for name in ("unlink", "remove", "rmdir"):
            patch.setattr(os, name, self._plain(name, getattr(os, name)))

    def tear(self) -> None:
        """Lose what no ``fsync`` has put onto the disk."""
        for name, content in self._replaced.items():
            if content is None:
                Path(name).unlink(missing_ok=True)
            else:
                Path(name).write_bytes(content)
        for name in sorted(self._unwritten):
            if os.path.isfile(name):
                os.truncate(name, os.path.getsize(name) // 2)
        for name in sorted(self._new, reverse=True):
            if os.path.isfile(name):
                os.unlink(name)
            elif os.path.isdir(name) and not os.listdir(name):
                os.rmdir(name)

    def _step(self, what: str, name: str) -> None:
        if len(self.done) >= self._most:
            raise PowerLoss
        self.done.append(f"{what} {name}")

    def _open(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def opened(file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
            if not isinstance(file, int) and set(mode) & set("wxa+") and self._ours(file):
                self._step("open", str(file))
                self._written(str(file))
            return original(file, mode, *args, **options)

        return opened

    def _os_open(self, original: Callable[..., int]) -> Callable[..., int]:
        def opened(path: Any, flags: int, *args: Any, **options: Any) -> int:
            if flags & (os.O_WRONLY | os.O_RDWR) and self._ours(path):
                self._step("open", str(path))
                self._written(str(path))
            return original(path, flags, *args, **options)

        return opened

    def _replace(self, original: Callable[..., None]) -> Callable[..., None]:
        def replaced(source: Any, target: Any) -> None:
            self._step("replace", str(target))
            was = Path(target).read_bytes() if os.path.exists(target) else None
            original(source, target)
            self._replaced.setdefault(str(target), was)
            self._new.discard(str(source))
            if str(source) in self._unwritten:
                self._unwritten = self._unwritten - {str(source)} | {str(target)}

        return replaced

    def _mkdir(self, original: Callable[..., None]) -> Callable[..., None]:
        def made(path: Any, *args: Any, **options: Any) -> None:
            self._step("mkdir", str(path))
            original(path, *args, **options)
            self._new.add(str(path))

        return made

    def _pwrite(self, original: Callable[..., int]) -> Callable[..., int]:
        def written(descriptor: int, content: bytes, offset: int) -> int:
            name = os.readlink(f"/proc/self/fd/{descriptor}")
            self._step("write", name)
            self._unwritten.add(name)
            return original(descriptor, content, offset)

        return written

    def _plain(self, what: str, original: Callable[..., None]) -> Callable[..., None]:
        def called(path: Any, *args: Any, **options: Any) -> None:
            self._step(what, str(path))
            original(path, *args, **options)

        return called

    def _fsync(self, descriptor: int) -> None:
        name = os.readlink(f"/proc/self/fd/{descriptor}")
        self._step("fsync", name)
        self._unwritten.discard(name)
        self._new = {new for new in self._new if os.path.dirname(new) != name}
        self._replaced = {path: was for path, was in self._replaced.items() if os.path.dirname(path) != name}

    def _written(self, name: str) -> None:
        self._unwritten.add(name)
        if not os.path.exists(name):
            self._new.add(name)

    def _ours(self, path: Any) -> bool:
        return str(path).startswith(self._folder)
