"""Memory of several processes with each page counted once, however many of them map it (Linux).

What PSS cannot say: it leaves to other processes their part of shared libraries, so the same agent weighs less
beside more Pythons. Needs root, for the system tells nobody else which page is which.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

PAGE = os.sysconf("SC_PAGE_SIZE")
_PRESENT = 1 << 63
_NUMBER = (1 << 55) - 1
_UNREAL = ("[vsyscall]", "[vvar]", "[vdso]")  # belong to no process


@dataclass(frozen=True)
class Pages:
    """Megabytes (10^6 bytes): all of it, and of that what is a file's and can be read again."""

    all: float
    files: float


def resident(pids: Iterable[int]) -> Pages | None:
    """None where the system does not tell."""
    found: dict[int, bool] = {}  # page -> whether it is a file's
    for pid in pids:
        with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/pagemap", "rb") as pagemap:
            for line in maps:
                span, _, _, _, _, *name = line.split(maxsplit=5)
                if name and name[0].strip() in _UNREAL:
                    continue
                start, end = (int(bound, 16) // PAGE for bound in span.split("-"))
                pagemap.seek(8 * start)
                entries = memoryview(pagemap.read(8 * (end - start))).cast("Q")
                is_file = bool(name) and name[0].startswith("/") and "w" not in line.split()[1]
                found.update((entry & _NUMBER, is_file) for entry in entries if entry & _PRESENT)
    if 0 in found:
        return None
    return Pages(len(found) * PAGE / 1e6, sum(found.values()) * PAGE / 1e6)
