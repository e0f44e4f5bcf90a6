"""MLServer: a custom runtime, one parallel worker (its default), adaptive batching; V2 as JSON.

Its HTTP door reads no binary tensors. An image comes as base64 in a BYTES tensor, as its content types have it.
"""

# mypy: disable-error-code="import-not-found,misc"

from __future__ import annotations

from typing import Any

import numpy as np
from mlserver import MLModel
from mlserver.codecs import Base64Codec, NumpyCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse

from bench.peers.serve.model import KIND, load_model

CODECS = {"tiny": NumpyCodec, "text": StringCodec, "image": Base64Codec}


class Peer(MLModel):
    async def load(self) -> bool:
        self.model = load_model()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        rows: Any = CODECS[KIND].decode_input(payload.inputs[0])
        output = NumpyCodec.encode_output("output", np.asarray(self.model.run(rows)))
        return InferenceResponse(model_name=self.name, outputs=[output])
