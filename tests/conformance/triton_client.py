"""``python -m tests.conformance.triton_client MODEL URL [HOST:PORT]``: the walk of a tritonclient user."""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

from tests.conformance import rows


def walk(door: str, address: str, model: str) -> dict[str, Any]:
    """What the client says; raises where it cannot."""
    library = importlib.import_module(f"tritonclient.{door}")
    more = {} if door == "http" else {"as_json": True}
    with library.InferenceServerClient(address.removeprefix("http://")) as client:
        about = client.get_model_metadata(model, **more)
        inputs = []
        for spec in about["inputs"]:
            array = rows.values(spec["datatype"], rows.sized([int(axis) for axis in spec["shape"]]))
            inputs.append(library.InferInput(spec["name"], list(array.shape), spec["datatype"]))
            inputs[-1].set_data_from_numpy(array)
        answer = client.infer(model, inputs, request_id="42")
        response = answer.get_response(**more)
        for spec in about["outputs"]:
            assert answer.as_numpy(spec["name"]) is not None
        return {
            "live": client.is_server_live(),
            "ready": client.is_server_ready(),
            "model_ready": client.is_model_ready(model),
            "outputs": [output["name"] for output in response["outputs"]],
            "id": response["id"],
        }


if __name__ == "__main__":
    model, *addresses = sys.argv[1:]
    for door, address in zip(("http", "grpc"), addresses, strict=False):
        print(json.dumps(walk(door, address, model)))
