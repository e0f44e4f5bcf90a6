"""Ray Serve: one replica, ``serve.batch`` taking what waits, JSON or raw bodies by content type.

One machine, loopback only, no dashboard, no usage reports (by environment).
"""

# mypy: disable-error-code="import-not-found,untyped-decorator,attr-defined"

from __future__ import annotations

import os
import signal
from typing import Any

import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from bench.peers.serve.model import MAX_BATCH_SIZE, PORT, from_body, load_model


@serve.deployment(num_replicas=1, max_ongoing_requests=256, ray_actor_options={"num_cpus": 1})
class Peer:
    def __init__(self) -> None:
        self.model = load_model()

    @serve.batch(max_batch_size=MAX_BATCH_SIZE, batch_wait_timeout_s=0.0)
    async def run(self, rows: list[Any]) -> list[Any]:
        return list(self.model.run(rows))

    async def __call__(self, request: Request) -> Response:
        if request.headers["content-type"] == "application/json":
            output = await self.run((await request.json())["instances"][0])
            return JSONResponse({"predictions": [output.tolist()]})
        output = await self.run(from_body(await request.body()))
        return Response(output.tobytes(), media_type="application/octet-stream")


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1", _temp_dir=os.environ["TMPDIR"])
    serve.start(http_options={"host": "127.0.0.1", "port": PORT})
    serve.run(Peer.bind())
    signal.pause()
