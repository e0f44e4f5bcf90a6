"""What the processor of this machine computes in, by Linux's names. Knows no engines."""

from __future__ import annotations

from functools import cache
from pathlib import Path

CPU_INFO = Path("/proc/cpuinfo")


@cache
def cpu_flags() -> frozenset[str]:
    """What the first core can do, and whose it is, as Linux names it; empty where it does not say."""
    if not CPU_INFO.is_file():
        return frozenset()
    found: set[str] = set()
    for line in CPU_INFO.read_text().partition("\n\n")[0].splitlines():
        name, _, words = line.partition(":")
        if name.strip() in ("vendor_id", "flags", "Features"):
            found.update(words.split())
    return frozenset(found)
