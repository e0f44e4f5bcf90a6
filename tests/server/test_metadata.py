from __future__ import annotations

import asyncio
import json
import urllib.request
from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.server.process import Server

from forwardpass.config import Limits
from forwardpass.errors import NotReady
from forwardpass.registry import ModelLocation
from forwardpass.scheduler import Scheduler
from forwardpass.server import metadata
from forwardpass.server.served import ServedModel, State, clock
from forwardpass.types import DType, InputSpec, InputType, ModelInfo, Sample, Signature, TensorSpec


def model(name: str = "mine", state: State = State.READY, batched: bool = True) -> ServedModel:
    served = ServedModel(ModelLocation(name, "1", Path(name)))
    served.state = state
    served.reason = "" if state is State.READY else "it fell over"
    amount = InputSpec(TensorSpec("amount", DType.FP32, (None, 2)), InputType.NUMBER, minimum=0, maximum=9)
    kind = InputSpec(TensorSpec("kind", DType.BYTES, (None,)), InputType.CATEGORY, "what", False, categories=("a",))
    served.signature = Signature((amount, kind), (TensorSpec("y", DType.INT64, (None,)),), batched)
    served.info = ModelInfo("about", "onnxruntime", "model.onnx", ("one()",), (), Sample("/here.json", "text/csv"))
    loop = asyncio.new_event_loop()
    served.scheduler = Scheduler(Limits(), batched, clock, loop, lambda requests: None)
    loop.close()
    return served


def plain(value: Any) -> Any:
    """As a client reads it."""
    return json.loads(orjson.dumps(value))


def test_shapes_hold_minus_one_for_free_axes() -> None:
    assert plain(metadata.of_model(model(), ["1", "2"])) == {
        "name": "mine",
        "versions": ["1", "2"],
        "platform": "forwardpass_onnxruntime",
        "inputs": [
            {"name": "amount", "datatype": "FP32", "shape": [-1, 2]},
            {"name": "kind", "datatype": "BYTES", "shape": [-1]},
        ],
        "outputs": [{"name": "y", "datatype": "INT64", "shape": [-1]}],
    }


def test_the_config_leaves_the_rows_out_of_batched_shapes() -> None:
    batched, whole = plain(metadata.of_config(model())), plain(metadata.of_config(model(batched=False)))
    assert (batched["max_batch_size"], whole["max_batch_size"]) == (32, 0)
    assert [item["dims"] for item in batched["input"]] == [[2], []]
    assert [item["dims"] for item in whole["input"]] == [[-1, 2], [-1]]
    assert batched["input"][1]["data_type"] == "TYPE_STRING"
    assert batched["dynamic_batching"] == {"max_queue_delay_microseconds": 0}
    assert "dynamic_batching" not in whole


@pytest.mark.parametrize("state", [State.LOADING, State.UNLOADING, State.UNAVAILABLE])
def test_what_is_not_ready_has_no_metadata_and_says_why(state: State) -> None:
    for told in (lambda served: metadata.of_model(served, ["1"]), metadata.of_config):
        with pytest.raises(NotReady, match="it fell over"):
            told(model(state=state))


def test_the_index_also_lists_what_is_not_loaded() -> None:
    served = [model("good"), model("bad", State.UNAVAILABLE)]
    lying = [ModelLocation(name, "1", Path(name)) for name in ("good", "idle")]
    index = {item["name"]: item for item in plain(metadata.of_repository(served, lying, only_ready=False))}
    assert {name: item["state"] for name, item in index.items()} == {
        "good": "READY",
        "bad": "UNAVAILABLE",
        "idle": "UNAVAILABLE",
    }
    assert (index["bad"]["reason"], index["idle"]["reason"]) == ("it fell over", "unloaded")
    ready = metadata.of_repository(served, lying, only_ready=True)
    assert [item["name"] for item in ready] == ["good"]


def test_people_are_told_what_is_allowed() -> None:
    told = plain(metadata.for_people(model()))
    amount, kind = told["inputs"]
    assert (amount["type"], amount["minimum"], amount["maximum"], amount["required"]) == ("number", 0, 9, True)
    assert (kind["categories"], kind["required"], kind["description"]) == (["a"], False, "what")
    assert (told["has_sample"], told["sample_type"], told["batched"]) == (True, "text/csv", True)
    assert "/here.json" not in json.dumps(told)  # no paths of this machine


def test_the_list_of_a_real_server(served: Server) -> None:
    with urllib.request.urlopen(f"{served.url}/models") as answer:
        models = {(item["name"], item["version"]): item for item in json.load(answer)["models"]}
    assert models["broken", "1"]["state"] == "UNAVAILABLE"
    assert "model.onnx" in models["broken", "1"]["reason"]
    assert [item["type"] for item in models["digits", "1"]["inputs"]] == ["image"]
    assert models["unbatched", "1"]["batched"] is False
    assert {("versions", "1"), ("versions", "2")} <= set(models)
