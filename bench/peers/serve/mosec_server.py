"""Mosec: one worker, dynamic batching with its shortest wait (1 ms), JSON or MessagePack.

A tensor travels as the bytes of its numbers in a MessagePack map; an image as the body itself.
"""

# mypy: disable-error-code="import-not-found,misc"

from __future__ import annotations

from typing import Any

from mosec import Server, Worker
from mosec.mixin import MsgpackMixin

from bench.peers.serve.model import KIND, MAX_BATCH_SIZE, floats, load_model


class JsonWorker(Worker):
    def __init__(self) -> None:
        self.model = load_model()

    def row(self, request: Any) -> Any:
        return request["instances"][0]

    def answer(self, output: Any) -> Any:
        return {"predictions": [output.tolist()]}

    def forward(self, data: Any) -> Any:
        if MAX_BATCH_SIZE == 1:  # Mosec hands over a single request where it does not batch
            return self.answer(self.model.run([self.row(data)])[0])
        return [self.answer(output) for output in self.model.run([self.row(request) for request in data])]


class TensorWorker(MsgpackMixin, JsonWorker):
    def row(self, request: Any) -> Any:
        return floats(request["x"])

    def answer(self, output: Any) -> Any:
        return {"y": output.tobytes()}


class ImageWorker(JsonWorker):
    def deserialize(self, data: bytes) -> Any:
        return data

    def row(self, request: Any) -> Any:
        return request


WORKERS = {"binary": TensorWorker, "image": ImageWorker}

if __name__ == "__main__":
    server = Server()
    server.append_worker(WORKERS.get(KIND, JsonWorker), num=1, max_batch_size=MAX_BATCH_SIZE, max_wait_time=1)
    server.run()
