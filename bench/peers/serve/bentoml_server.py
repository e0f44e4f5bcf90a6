"""BentoML: one worker, adaptive batching, numpy or text in JSON, images as multipart files.

Its main server takes no tensors as bytes: the pickle format of its own clients is refused there for safety.
"""

# mypy: disable-error-code="import-not-found,untyped-decorator"
# Annotations are read by BentoML, so they must be real here.
from typing import Annotated, Any

import bentoml
import numpy as np
from bentoml.validators import DType
from PIL import Image

from bench.peers.serve.model import KIND, MAX_BATCH_SIZE, load_model

# Latency beyond which BentoML refuses: 64 images wait 2 to 3 s on one core.
limits = {"max_batch_size": MAX_BATCH_SIZE, "max_latency_ms": 20_000} if MAX_BATCH_SIZE > 1 else {}
batched = bentoml.api(batchable=MAX_BATCH_SIZE > 1, **limits)
Numbers = Annotated[np.ndarray, DType("float32")]


@bentoml.service(workers=1, threads=1, traffic={"timeout": 60}, metrics={"enabled": False})
class Peer:
    def __init__(self) -> None:
        self.model = load_model()

    if KIND == "tiny":

        @batched
        def predict(self, instances: Numbers) -> Numbers:
            return self.model.run(instances)

    elif KIND == "text":

        @batched
        def predict(self, instances: list[str]) -> Numbers:
            return self.model.run(instances)

    else:

        @batched
        def predict(self, instances: list[Image.Image]) -> Numbers:
            return self.model.run([jpeg(image) for image in instances])


def jpeg(image: Any) -> bytes:
    """The bytes as they came: BentoML has opened the file but not decoded it."""
    image.fp.seek(0)
    return bytes(image.fp.read())
