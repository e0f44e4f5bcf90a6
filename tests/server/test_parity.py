"""The same rows give the same answers, bit for bit, whichever way they are asked for."""

from __future__ import annotations

import base64
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from tests.server.conftest import EXAMPLES
from tests.server.grpc import client as grpc_client
from tests.server.process import Server

import forwardpass
from forwardpass import Engine
from forwardpass.engine.rows import columns_from_instances, instances_from_columns
from forwardpass.types import Array, Columns, DType

MODELS = ["breast-cancer", "digits", "fraud", "recommend", "task-priority"]


def sample_rows(model: str) -> list[Any]:
    """The sample of a model as V1 instances; of the digits, the picture and its negative."""
    if model != "digits":
        rows: list[Any] = json.loads((EXAMPLES / model / "sample.json").read_text())["instances"]
        return rows
    return [{"b64": base64.b64encode(picture).decode()} for picture in _pictures(EXAMPLES / model / "sample.png")]


def _pictures(file: Path) -> Iterator[bytes]:
    import io

    from PIL import Image, ImageOps

    yield file.read_bytes()
    with Image.open(file) as image:
        negative = io.BytesIO()
        ImageOps.invert(image.convert("L")).save(negative, "PNG")
    yield negative.getvalue()


@pytest.fixture(params=MODELS)
def asked(request: pytest.FixtureRequest) -> Iterator[tuple[str, Engine, list[Any], Columns]]:
    """A model's name, its engine in this process, rows, and the same rows as columns."""
    engine = forwardpass.load(EXAMPLES / request.param)
    rows = sample_rows(request.param)
    yield request.param, engine, rows, columns_from_instances(rows, engine.signature)
    engine.close()


def over_v2(served: Server, model: str, columns: Columns, *, binary: bool) -> Columns:
    client = triton.InferenceServerClient(served.url.removeprefix("http://"))
    inputs = []
    for name, array in columns.items():
        values = _as_text(array) if array.dtype == object and not binary else array
        kind = DType.of(array).value
        inputs.append(triton.InferInput(name, list(values.shape), kind).set_data_from_numpy(values, binary_data=binary))
    metadata = client.get_model_metadata(model)
    names = [output["name"] for output in metadata["outputs"]]
    outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in names]
    answer = client.infer(model, inputs, outputs=outputs)
    return {name: answer.as_numpy(name) for name in names}


def _as_text(array: Array) -> Array:
    """Byte strings as JSON can hold them."""
    values = [base64.b64encode(item).decode() if isinstance(item, bytes) else item for item in array]
    return np.array(values, object)


def over_v1(served: Server, model: str, rows: list[Any]) -> list[Any]:
    body = json.dumps({"instances": rows}).encode()
    with urllib.request.urlopen(f"{served.url}/v1/models/{model}:predict", body) as answer:
        predictions: list[Any] = json.load(answer)["predictions"]
    return predictions


def same_bits(given: Array, wanted: Array) -> bool:
    if wanted.dtype == object:
        texts = [item.decode() if isinstance(item, bytes) else item for item in given.ravel().tolist()]
        return texts == wanted.ravel().tolist()
    return given.dtype == wanted.dtype and given.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("binary", [False, True], ids=["json", "binary"])
def test_v2_answers_as_the_engine_does(
    served: Server, asked: tuple[str, Engine, list[Any], Columns], binary: bool
) -> None:
    model, engine, _, columns = asked
    if not binary:  # JSON has no NaN, which is how a number that was left out arrives
        whole = np.all([array == array for array in columns.values() if array.ndim == 1], axis=0)
        columns = {name: array[whole] for name, array in columns.items()} if np.ndim(whole) else columns
    wanted, _ = engine.run(columns)
    given = over_v2(served, model, columns, binary=binary)
    assert given.keys() == wanted.keys()
    assert all(same_bits(given[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("raw", [False, True], ids=["typed", "raw"])
def test_grpc_answers_as_the_engine_does(
    served: Server, asked: tuple[str, Engine, list[Any], Columns], raw: bool
) -> None:
    model, engine, _, columns = asked
    wanted, _ = engine.run(columns)
    with grpc_client.connected(served) as channel:
        answer = grpc_client.infer(channel, grpc_client.request(model, columns, raw=raw))
        streamed = list(grpc_client.stream(channel)(iter([grpc_client.request(model, columns, raw=raw)])))
    for response in (answer, *(item.infer_response for item in streamed)):
        assert (len(response.raw_output_contents) > 0) is raw
        given = grpc_client.columns(response)
        assert given.keys() == wanted.keys()
        assert all(same_bits(given[name], wanted[name]) for name in wanted)


def test_v1_answers_as_the_engine_does(served: Server, asked: tuple[str, Engine, list[Any], Columns]) -> None:
    model, engine, rows, columns = asked
    wanted, _ = engine.run(columns)
    assert over_v1(served, model, rows) == instances_from_columns(wanted)


def test_predict_takes_rows_and_columns_alike(asked: tuple[str, Engine, list[Any], Columns]) -> None:
    _, engine, rows, columns = asked
    assert engine.predict(rows) == instances_from_columns(engine.predict(columns))
