"""(b) A FastAPI and ONNX Runtime server as a user would write it, run by uvicorn with its defaults.

``BENCH_MODEL`` names the artifact. A plain ``def``, as FastAPI's documentation advises for a call
that blocks; one thread for the session, because the server is given one core.
"""

from __future__ import annotations

import os

import numpy as np
import onnxruntime
from fastapi import FastAPI
from pydantic import BaseModel

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(os.environ["BENCH_MODEL"], options, providers=["CPUExecutionProvider"])
app = FastAPI()


class PredictRequest(BaseModel):
    instances: list[list[float]]


class PredictResponse(BaseModel):
    predictions: list[list[float]]


@app.get("/health")
def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/predict")
def predict(request: PredictRequest) -> PredictResponse:
    x = np.array(request.instances, dtype=np.float32)
    (y,) = session.run(None, {"x": x})
    return PredictResponse(predictions=y.tolist())


@app.post("/predict-async")
async def predict_async(request: PredictRequest) -> PredictResponse:
    """The same on the event loop, for the table's small print: faster, and it blocks the loop."""
    return predict(request)
