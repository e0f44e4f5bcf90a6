"""LitServe: one worker, batching on; a batch takes what waits when the worker is free (its default timeout, 0).

A body of raw bytes reaches ``decode_request`` where its argument is annotated as ``bytes``.
"""

# mypy: disable-error-code="import-not-found,misc,override"
# Annotations are read by FastAPI, so they must be real here.
from typing import Annotated, Any

import litserve
from fastapi import Body, Response
from pydantic import BaseModel

from bench.peers.serve.model import MAX_BATCH_SIZE, PORT, RAW_BODY, ROW, from_body, load_model


class Rows(BaseModel):
    instances: list[ROW]


class JsonApi(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.model = load_model()

    def decode_request(self, request: Rows) -> Any:
        return request.instances[0]

    def batch(self, inputs: list[Any]) -> list[Any]:
        return inputs

    def predict(self, inputs: list[Any]) -> Any:
        return self.model.run(inputs)

    def unbatch(self, output: Any) -> list[Any]:
        return list(output)

    def encode_response(self, output: Any) -> dict[str, Any]:
        return {"predictions": [output.tolist()]}


class RawApi(JsonApi):
    def decode_request(self, request: Annotated[bytes, Body()]) -> Any:
        return from_body(request)

    def encode_response(self, output: Any) -> Response:
        return Response(output.tobytes(), media_type="application/octet-stream")


if __name__ == "__main__":
    api = (RawApi if RAW_BODY else JsonApi)(max_batch_size=MAX_BATCH_SIZE, batch_timeout=0.0)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=PORT, num_api_servers=1, generate_client_file=False, log_level="warning")
