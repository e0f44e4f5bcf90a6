"""This machine as a target, and what every machine does: one model measured in a new process of its own.

Knows nothing of connections; the far end of one runs its processes by ``run_probe`` too.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import msgspec

from forwardpass.optimize.lineage import libraries, machine
from forwardpass.optimize.probe import Measured, Spec
from forwardpass.optimize.processor import cpu_flags
from forwardpass.optimize.targets.base import Host, Order, ProbeFailed

Wait = Callable[[subprocess.Popen[bytes], float], int]  # the exit status, within so many seconds

_TAIL = 300  # characters of what a crashed process said last
_MODULES = {  # backend -> what must be importable for it; of those that depend on more than that, nothing is known
    "onnxruntime": "onnxruntime",
    "onnxruntime-openvino": "onnxruntime_ep_openvino",
    "openvino": "openvino",
    "torch": "torch",
    "sklearn": "sklearn",
    "xgboost": "xgboost",
    "lightgbm": "lightgbm",
    "litert": "ai_edge_litert",
}


class Local:
    """This machine."""

    name = "local"

    def host(self) -> Host:
        lacks = tuple(name for name, module in _MODULES.items() if not _has(module))
        return Host(machine(), libraries(), lacks, cpu_flags())

    def measure(self, order: Order) -> Measured:
        folder = order.rows.parent
        predictions = str(order.predictions or "")
        model, rows = str(order.model.absolute()), str(order.rows)
        spec = Spec(model, rows, str(folder / "probe.result.json"), predictions, order.threads, order.seconds)
        return run_probe(spec, folder, order.timeout)

    def close(self) -> None:
        pass


def run_probe(spec: Spec, folder: Path, timeout: float, wait: Wait = subprocess.Popen.wait) -> Measured:
    """Measure in a new process, whose files lie in ``folder``. Raises ``ProbeFailed``, and what ``wait`` raises."""
    file, said, result = folder / "probe.json", folder / "probe.log", Path(spec.result)
    result.unlink(missing_ok=True)
    file.write_bytes(msgspec.json.encode(spec))
    with said.open("wb") as log:
        status = _run([sys.executable, "-m", "forwardpass.optimize.probe", str(file)], log.fileno(), timeout, wait)
    if not result.is_file():
        raise ProbeFailed(_ended(status, said))
    measured = msgspec.json.decode(result.read_bytes(), type=Measured)
    if measured.error:
        raise ProbeFailed(measured.error)
    return measured


def ended(status: int) -> str:
    """How a process ended, in words."""
    if status < 0:
        try:
            return f"its process was killed by {signal.Signals(-status).name}"
        except ValueError:
            return f"its process was killed by signal {-status}"
    return f"its process ended with status {status}"


def _run(command: list[str], log: int, timeout: float, wait: Wait) -> int:
    """A process's exit status. Nothing of it is left, however this ends."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        return wait(process, timeout)
    except subprocess.TimeoutExpired:
        raise ProbeFailed(f"its process did not end within {timeout:.0f} s") from None
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _ended(status: int, said: Path) -> str:
    last = " ".join(said.read_text(errors="replace").split())[-_TAIL:]
    return f"{ended(status)}{f': {last}' if last else ''}"


def _has(module: str) -> bool:
    return find_spec(module) is not None
