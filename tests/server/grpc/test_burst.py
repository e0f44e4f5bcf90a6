"""More calls at once than the library holds by default: each is answered, none is dropped without a word."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tests import artifacts
from tests.server.grpc.client import columns, infer, method, request
from tests.server.process import running

CALLS = 4000
OWN = [("grpc.use_local_subchannel_pool", 1)]  # else all channels share a connection


@pytest.mark.parametrize("connections", [1, 40])
def test_a_burst_after_a_pause_is_answered(tmp_path: Path, connections: int) -> None:
    folder = tmp_path / "lookup"
    artifacts.lookup(folder / "model.onnx")
    (folder / "model.yaml").write_text(f"limits: {{max_queue_size: {2 * CALLS}}}\n")
    with running([folder], grpc=True) as server, ExitStack() as stack:
        address = f"127.0.0.1:{server.grpc_port}"
        channels = [stack.enter_context(grpc.insecure_channel(address, OWN)) for _ in range(connections)]
        for channel in channels:
            infer(channel, asked(0))
        methods = [method(channel, "ModelInfer") for channel in channels]
        os.kill(server.pid, signal.SIGSTOP)  # as on a machine that is busy with something else
        try:
            calls = [methods[n % connections].future(asked(n), timeout=50) for n in range(CALLS)]
        finally:
            os.kill(server.pid, signal.SIGCONT)
        answers = [columns(call.result())["y"].tolist() for call in calls]
    assert answers == [[10.0 * (n % 8)] for n in range(CALLS)]


def asked(number: int) -> Any:
    return request("lookup", {"id": np.array([number % 8])})
