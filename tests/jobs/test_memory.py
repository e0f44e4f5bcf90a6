"""Memory stays flat: forty times as many rows need no more."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests import artifacts
from tests.jobs.test_kill import descendants

MB = 1024
SLACK = 1.1  # of the smaller run's peak: allocators do not give back at once


def write(path: Path, rows: int) -> Path:
    draw = np.random.default_rng(0)
    with pq.ParquetWriter(path, pa.schema({"id": pa.int64(), "x": pa.float64()})) as writer:
        for start in range(0, rows, 100_000):
            writer.write_table(pa.table({"id": np.arange(start, start + 100_000), "x": draw.random(100_000)}))
    return path


def peak(command: Sequence[str]) -> dict[str, int]:
    """The most kilobytes that the command, and any one of its workers, ever had in memory."""
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    most = {"parent": 0, "worker": 0}
    while process.poll() is None:
        most["parent"] = max(most["parent"], high_water(process.pid))
        for pid in descendants(process.pid):
            most["worker"] = max(most["worker"], high_water(pid))
        time.sleep(0.02)
    assert process.returncode == 0
    return most


def high_water(pid: int) -> int:
    with suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1])
    return 0


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("output", ["out", "out.parquet", "out.csv"])
def test_memory_does_not_grow_with_the_rows(tmp_path: Path, output: str) -> None:
    model = artifacts.identity(tmp_path / "identity" / "model.onnx", shape=("N",))
    peaks = []
    for rows in (100_000, 4_000_000):
        source = write(tmp_path / f"{rows}.parquet", rows)
        folder = tmp_path / f"of-{rows}"
        folder.mkdir()
        asked = [str(model), str(source), str(folder / output), "--workers", "1", "--part-rows", "100000"]
        peaks.append(peak([sys.executable, "-m", "forwardpass", "run", *asked]))
    small, large = peaks
    print(f"{output}: {small} kB for 100 thousand rows, {large} kB for 4 million")
    for who in small:
        assert large[who] <= SLACK * small[who] + 8 * MB
