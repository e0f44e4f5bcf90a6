"""KServe V1: models, readiness, predict."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from tests.conformance import rows
from tests.conformance.target import Target

pytestmark = pytest.mark.usefixtures("offered")


@pytest.fixture(scope="module")
def offered(target: Target) -> None:
    if target.get("/v1/models").status == 404:
        pytest.skip("the server does not speak V1")


def instances(target: Target, model: str) -> list[Any]:
    """One entry per row: the bare value where there is one input, else an object by input."""
    about = target.metadata(model)
    columns = {name: rows.plain(array, nested=True) for name, array in rows.make(about).items()}
    free = all(spec["shape"][:1] == [-1] for spec in about["inputs"])
    count = rows.FREE[0] if free else 1
    listed = [{name: value[row] if free else value for name, value in columns.items()} for row in range(count)]
    return [next(iter(row.values())) for row in listed] if len(columns) == 1 else listed


def test_the_models(target: Target, model: str) -> None:
    """List: GET /v1/models."""
    assert model in target.get("/v1/models").good["models"]


def test_readiness(target: Target, model: str) -> None:
    """Model Ready: GET /v1/models/NAME; an error where it is not there."""
    assert target.get(f"/v1/models/{model}").good == {"name": model, "ready": True}
    assert target.get("/v1/models/no-such-model").error


def test_predict(target: Target, model: str) -> None:
    """Predict: one prediction for each instance, in order."""
    given = instances(target, model)
    whole = target.post(f"/v1/models/{model}:predict", {"instances": given}).good["predictions"]
    assert len(whole) == len(given)
    for row, expected in zip(given, whole, strict=True):
        (alone,) = target.post(f"/v1/models/{model}:predict", {"instances": [row]}).good["predictions"]
        assert alike(alone, expected)


def alike(one: Any, other: Any) -> bool:
    """A batch of another size may round the last bits in another way."""
    if isinstance(one, dict):
        return set(one) == set(other) and all(alike(one[name], other[name]) for name in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(alike(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == pytest.approx(other, rel=1e-4, abs=1e-6)) if isinstance(one, float) else bool(one == other)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"instances": {}}', b'{"instances": [{"no such": 1}]}'])
def test_a_wrong_body(target: Target, model: str, body: bytes) -> None:
    """Predict: 400 and an object with ``error``."""
    answer = target.ask("POST", f"/v1/models/{model}:predict", body, Content_Type="application/json")
    assert answer.error
    assert answer.status == 400


def test_no_model(target: Target) -> None:
    """Predict: 404 and an object with ``error``."""
    answer = target.post("/v1/models/no-such-model:predict", {"instances": []})
    assert answer.error
    assert answer.status == 404


@pytest.mark.usefixtures("own")
def test_bytes(target: Target) -> None:
    """Encoding binary values: ``{"b64": …}`` for the bytes that it encodes."""
    row = {f"x_{kind}": rows.plain(rows.values(kind, (2,)), nested=True) for kind in rows.TYPES if kind != "BF16"}
    row["x_BYTES"] = [{"b64": base64.b64encode("ä\0".encode()).decode()}, "text"]
    (said,) = target.post("/v1/models/every-type:predict", {"instances": [row]}).good["predictions"]
    assert said["y_BYTES"] == ["ä\0", "text"]
