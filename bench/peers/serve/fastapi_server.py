"""A hand-written FastAPI server: ``async def``, pydantic for JSON, the raw body for tensors and images.

No batching, as such servers have none. Run by uvicorn with uvloop and httptools, without its access log.
"""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel

from bench.peers.serve.model import ROW, from_body, load_model

app = FastAPI()
model = load_model()


class Rows(BaseModel):
    instances: list[ROW]


class Predictions(BaseModel):
    predictions: list[list[float]]


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/predict")
async def predict(rows: Rows) -> Predictions:
    return Predictions(predictions=model.run(rows.instances).tolist())


@app.post("/predict-raw")
async def predict_raw(request: Request) -> Response:
    output = model.run([from_body(await request.body())])
    return Response(output.tobytes(), media_type="application/octet-stream")
