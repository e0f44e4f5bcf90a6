"""The public clients, unchanged: ``tritonclient`` and KServe's, over HTTP and gRPC.

Each library runs in a process of its own: their messages have the same names, and no two of them
can share protobuf's registry.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from tests.conformance.target import Target


def run(client: str, target: Target, model: str) -> list[dict[str, Any]]:
    """What the program prints for each door: facts that it has checked, as JSON."""
    command = [sys.executable, "-W", "ignore", "-m", f"tests.conformance.{client}", model, target.url]
    command += [target.grpc] if target.grpc else []
    ended = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return [json.loads(line) for line in ended.stdout.splitlines()]


@pytest.mark.parametrize("client", ["triton_client", "kserve_client"])
def test_the_client(target: Target, one_model: str, client: str) -> None:
    """Health, metadata and inference through the library, with rows made from the metadata."""
    walks = run(client, target, one_model)
    assert len(walks) == (2 if target.grpc else 1)
    for said in walks:
        assert [said[name] for name in ("live", "ready", "model_ready")] == [True, True, True]
        assert said["outputs"] == [spec["name"] for spec in target.metadata(one_model)["outputs"]]
        assert said["id"] == "42"
