"""KServe's client, unchanged, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import grpc
from tests import artifacts
from tests.server.grpc.client import SERVICE, connected
from tests.server.process import running

from forwardpass.server.grpc.generated import inference_pb2 as pb

PROGRAM = Path(__file__).with_name("kserve_client.py")


def test_the_client_of_kserve(tmp_path: Path) -> None:
    artifacts.identity(tmp_path / "one" / "model.onnx")
    with running([tmp_path], grpc=True) as server:
        command = [sys.executable, str(PROGRAM), f"127.0.0.1:{server.grpc_port}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=50)
        assert done.returncode == 0, done.stderr[-2000:]
        said = json.loads(done.stdout.splitlines()[-1])
        with connected(server) as channel:
            _load_as_it_does(channel)
    assert said["ready"] == [True, True, True]
    assert (said["id"], said["typed"], said["raw"]) == ("mine", [[1.5, 2.0], [3.0, 4.0]], [[1.5, 2.0]])
    assert "nobody" in said["refused"]


def _load_as_it_does(channel: grpc.Channel) -> None:
    """Its messages have the model's name in field 1, where the newer have the repository's."""
    for name in ("Unload", "Load"):
        sent = pb.RepositoryModelLoadRequest(repository_name="one").SerializeToString()
        answer = channel.unary_unary(f"{SERVICE}RepositoryModel{name}")(sent, timeout=20)
        assert pb.RepositoryModelLoadResponse.FromString(answer) == pb.RepositoryModelLoadResponse(
            model_name="one", isLoaded=True
        )
