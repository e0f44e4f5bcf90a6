"""The generated messages are what the generator gives, and live beside other clients' of the same package."""

from __future__ import annotations

import pytest

from forwardpass.server.grpc.generated import generate, inference_pb2


def test_generating_again_changes_nothing() -> None:
    for name, content in generate.generate().items():
        assert (generate.HERE / name).read_text() == content, f"run python -m {generate.__name__}"


def test_they_share_a_process_with_another_client_of_the_protocol() -> None:
    from tritonclient.grpc import service_pb2

    ours, theirs = inference_pb2.ModelInferRequest, service_pb2.ModelInferRequest
    assert ours.DESCRIPTOR.full_name == theirs.DESCRIPTOR.full_name
    assert ours.DESCRIPTOR.file.pool is not theirs.DESCRIPTOR.file.pool


@pytest.mark.parametrize(
    "name", ["ModelInferRequest", "ModelInferResponse", "ModelStreamInferResponse", "ModelStatistics", "ModelConfig"]
)
def test_numbers_and_kinds_are_those_of_the_public_client(name: str) -> None:
    from tritonclient.grpc import model_config_pb2, service_pb2

    ours = getattr(inference_pb2, name).DESCRIPTOR
    theirs = getattr(service_pb2 if hasattr(service_pb2, name) else model_config_pb2, name).DESCRIPTOR
    known = {field.name: (field.number, field.type, field.is_repeated) for field in theirs.fields}
    assert {field.name: (field.number, field.type, field.is_repeated) for field in ours.fields}.items() <= known.items()
