"""Which files a glob means: the same in a folder and in a bucket.

A name and a pattern are compared folder by folder. Knows no storage.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

EVERYTHING = ("**",)
_SPECIAL = frozenset("*?[")
_HIDDEN = (".", "_")


def split(name: str) -> tuple[str, tuple[str, ...]]:
    """The folder that a glob starts from, and the rest, by folders; no rest where it is no glob.

    ``data/2026-*/**/x?.csv`` is ``data`` and ``2026-*``, ``**``, ``x?.csv``.
    """
    folders = name.split("/")
    first = next((at for at, folder in enumerate(folders) if _SPECIAL & set(folder)), None)
    if first is None:
        return name, ()
    return "/".join(folders[:first]), tuple(folder for folder in folders[first:] if folder)


def matches(name: Sequence[str], pattern: Sequence[str], inside: bool = False) -> bool:
    """Whether a file is meant; with ``inside``, whether a file in this folder, however deep, may be.

    Both are given by folders, from where the glob starts. A name that begins with ``.`` or ``_`` is hidden:
    only a pattern that begins with the same sign means it.
    """
    if not name:
        return bool(pattern) if inside else all(folder == "**" for folder in pattern)
    if not pattern:
        return False
    head, wanted = name[0], pattern[0]
    hidden = head.startswith(_HIDDEN)
    if wanted == "**":
        return matches(name, pattern[1:], inside) or (not hidden and matches(name[1:], pattern, inside))
    return (
        (not hidden or wanted.startswith(head[0]))
        and fnmatchcase(head, wanted)
        and matches(name[1:], pattern[1:], inside)
    )
