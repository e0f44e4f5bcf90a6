"""The gateway runs on devices: loading it loads nothing that a device does not have."""

from __future__ import annotations

import subprocess
import sys

NOT_THERE = (
    "uvicorn", "starlette", "httptools", "uvloop", "grpc", "typer", "rich", "pyarrow", "obstore", "prometheus_client",
    "onnxruntime", "forwardpass.jobs", "forwardpass.optimize", "forwardpass.server.grpc",
)  # fmt: skip
PROGRAM = f"""
import sys
import forwardpass.gateway.compose
found = [name for name in {NOT_THERE!r} if name in sys.modules]
print(*found)
assert "h11" in sys.modules
"""


def test_nothing_is_loaded_that_a_device_does_not_have() -> None:
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=50, check=False)
    assert (ran.returncode, ran.stdout.strip(), ran.stderr) == (0, "", "")
