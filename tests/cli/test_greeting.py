"""What ``serve`` shows of models in every state."""

from __future__ import annotations

from pathlib import Path

import pytest

from forwardpass.cli.greeting import base_url, greeting
from forwardpass.registry import ModelLocation
from forwardpass.server.served import ServedModel, State
from forwardpass.types import DType, InputSpec, ModelInfo, Signature, TensorSpec


def served(name: str, version: str, state: State, reason: str = "", description: str = "") -> ServedModel:
    model = ServedModel(ModelLocation(name, version, Path(name)))
    model.state, model.reason, model.info = state, reason, ModelInfo(description=description)
    model.signature = Signature((InputSpec(TensorSpec("x", DType.FP32, (None, 1))),), (), True)
    return model


@pytest.mark.parametrize(
    ("host", "base"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
        ("::1", "http://[::1]:80"),
    ],
)
def test_the_address_is_one_that_can_be_asked(host: str, base: str) -> None:
    assert base_url(host, 80) == base


def test_a_failed_model_is_shown_with_its_reason_and_without_a_curl_line() -> None:
    models = [
        served("good", "1", State.READY, description="It\nworks"),
        served("bad", "1", State.UNAVAILABLE, "no file"),
    ]
    text = greeting(models, "http://h:1", "2 cores, 1 front")
    rows = [line.split() for line in text.splitlines()]
    assert ["good", "1", "READY", "It", "works"] in rows
    assert ["bad", "1", "UNAVAILABLE", "no", "file"] in rows
    assert ["plan", "2", "cores,", "1", "front"] in rows
    assert [line.split()[1] for line in text.splitlines() if line.startswith("curl")] == [
        "http://h:1/v1/models/good:predict"
    ]
    for url in ("http://h:1/", "http://h:1/openapi.json", "http://h:1/metrics"):
        assert f" {url}\n" in text


def test_one_curl_line_for_all_versions_of_a_model() -> None:
    models = [served("m", version, State.READY) for version in ("1", "2", "10")]
    assert greeting(models, "http://h:1", "2 cores, 1 front").count("curl ") == 1


def test_nothing_to_try_where_nothing_is_ready() -> None:
    said = greeting([served("m", "1", State.UNAVAILABLE, "why")], "http://h:1", "2 cores, 1 front")
    assert "try it" not in said
    assert "no model is ready yet at http://h:1" in said
