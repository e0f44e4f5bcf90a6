"""Files that survive a loss of power: each is its old or its new content, never half of either.

A file is written beside its name, put onto the disk, renamed, and the folder put onto the disk too.
Knows nothing of what is in the files.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from forwardpass.errors import words

TEMPORARY = ".tmp"  # the end of names that are not read by anyone, and may be removed at any time


def write(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Give a file this content, all at once. Raises ``OSError``; the file is as it was then."""
    beside = path.with_name(path.name + TEMPORARY)
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    sync(path.parent)


def make_folder(folder: Path, mode: int = 0o755) -> None:
    """A folder and those above it; ``mode`` is that of the folder alone, and only where it is made."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(mode, exist_ok=True)
    sync(folder.parent)


def remove_folder(folder: Path) -> None:
    """A folder and all that is in it; nothing happens where it is not there."""
    if folder.exists():
        shutil.rmtree(folder)
        sync(folder.parent)


def sync_tree(folder: Path) -> None:
    """Put a folder onto the disk, with every file and folder in it."""
    for above, _, names in os.walk(folder):
        for name in names:
            sync(Path(above, name))
        sync(Path(above))


def refusal(error: OSError) -> str:
    """What the disk did not do, for people."""
    file = f"{error.filename}: " if error.filename else ""
    return f"{file}{words(error)}; make room or mend the disk"


def sync(path: Path) -> None:
    """Put a file's content, or a folder's names, onto the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
