"""``python -m tests.conformance.kserve_client MODEL URL [HOST:PORT]``: the walk of a KServe client's user."""

from __future__ import annotations

import asyncio
import json
import sys
import urllib.request
from typing import Any

import grpc
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig
from tests.conformance import rows
from tests.conformance.messages import kind, message


def request(about: dict[str, Any], model: str, *, binary: bool) -> Any:
    inputs = []
    for spec in about["inputs"]:
        array = rows.values(spec["datatype"], rows.sized(spec["shape"]))
        item = InferInput(spec["name"], list(array.shape), spec["datatype"])
        item.set_data_from_numpy(array, binary_data=binary)
        inputs.append(item)
    return InferRequest(model_name=model, infer_inputs=inputs, request_id="42")


async def over_http(url: str, model: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url}/v2/models/{model}", timeout=20) as answer:
        about = json.load(answer)
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    answers = [await client.infer(url, request(about, model, binary=binary), model) for binary in (False, True)]
    first, second = ([output.name for output in answer.outputs] for answer in answers)
    assert first == second
    return {
        "live": await client.is_server_live(url),
        "ready": await client.is_server_ready(url),
        "model_ready": await client.is_model_ready(url, model),
        "outputs": first,
        "id": answers[0].id,
    }


def metadata(address: str, model: str) -> dict[str, Any]:
    """The client has no call for it."""
    with grpc.insecure_channel(address) as channel:
        path = "/inference.GRPCInferenceService/ModelMetadata"
        call = channel.unary_unary(path, None, kind("ModelMetadataResponse").FromString)
        said = call(message("Named", name=model).SerializeToString(), timeout=20)
    return {"inputs": [{"name": i.name, "datatype": i.datatype, "shape": list(i.shape)} for i in said.inputs]}


async def over_grpc(address: str, model: str) -> dict[str, Any]:
    client = InferenceGRPCClient(address)
    about = metadata(address, model)
    answer = await client.infer(request(about, model, binary=True))
    said = {
        "live": await client.is_server_live(),
        "ready": await client.is_server_ready(),
        "model_ready": await client.is_model_ready(model),
        "outputs": [output.name for output in answer.outputs],
        "id": answer.id,
    }
    await client.close()
    return said


if __name__ == "__main__":
    model, *addresses = sys.argv[1:]
    for walk, address in zip((over_http, over_grpc), addresses, strict=False):
        print(json.dumps(asyncio.run(walk(address, model))))
