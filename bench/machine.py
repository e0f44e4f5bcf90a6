"""Facts of the machine and the versions of what was measured, for the head of the table."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from bench import load, nginx


def facts() -> dict[str, str]:
    packages = ("onnxruntime", "uvicorn", "uvloop", "httptools", "fastapi", "pillow", "tokenizers")
    busy = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "processor": f"{_cpu_model()}, {os.cpu_count()} cores",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9:.0f} GB",
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        **{name: version(name) for name in packages},
        "nginx": nginx.version() or "not installed",
        "load generator": load.tool(),
        "load average before": busy,
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
