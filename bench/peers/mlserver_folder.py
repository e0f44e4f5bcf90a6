"""MLServer takes its settings as two JSON files in a folder."""

from __future__ import annotations

import json
from pathlib import Path

from bench.peers.place import Place
from bench.processes import free_port


def write(place: Place) -> Path:
    """The folder to start it with."""
    folder = place.scratch / "mlserver"
    folder.mkdir()
    ports = {"http_port": place.port, "grpc_port": free_port(), "metrics_port": free_port()}
    settings = {"host": "127.0.0.1", "debug": False, **ports, "parallel_workers": 1}
    settings |= {"metrics_dir": str(folder), "environments_dir": str(folder / "environments")}
    (folder / "settings.json").write_text(json.dumps(settings))
    batching = {"max_batch_size": place.batch, "max_batch_time": 0.001} if place.batch > 1 else {}
    model = {"name": "peer", "implementation": "bench.peers.serve.mlserver_server.Peer", **batching}
    (folder / "model-settings.json").write_text(json.dumps(model))
    return folder
