"""Our OpenAPI document against our server: whatever it allows is answered as it says, never with a 500.

Requests are made up from the document: right ones, and ones wrong in one way. Loading and unloading
are left out of the right ones: they would take away the models that other tests share.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from tests.server.http.json_schema import mistakes
from tests.server.http.raw import quiet
from tests.server.process import Server

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its own dependencies' deprecations
    import requests
    import schemathesis
    from schemathesis import GenerationMode
    from schemathesis.core.result import Ok
    from schemathesis.specs.openapi import checks

CHECKS = [checks.status_code_conformance, checks.content_type_conformance]
MODES = {GenerationMode.POSITIVE: "right", GenerationMode.NEGATIVE: "wrong"}
QUICK = (
    "/v2/models/affine",
    "/v2/models/bytes",
    "/v2/models/unbatched",
    "/v1/models/fraud",
    "/v2/repository",
    "/v2/health",
)
SHARED = settings(
    database=None, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate]
)


@pytest.fixture(scope="module")
def operations(served: Server) -> list[Any]:
    """Every operation of the document."""
    schema = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
    return [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]


@pytest.fixture(scope="module")
def session() -> Iterator[Any]:
    with requests.Session() as session:
        yield session


def check(operation: Any, mode: GenerationMode, examples: int, session: Any) -> int:
    """Ask what the operation allows; returns how many requests were sent."""
    sent = 0

    @seed(1)
    @settings(SHARED, max_examples=examples)
    @given(case=operation.as_strategy(generation_mode=mode))
    def hold(case: Any) -> None:
        nonlocal sent
        sent += 1
        answer = case.call(session=session)
        assert answer.status_code != 500, answer.text
        case.validate_response(answer, checks=CHECKS)
        assert said_wrong(operation, answer) == []

    with contextlib.suppress(Unsatisfiable):  # some bodies cannot be made wrong
        hold()
    return sent


def said_wrong(operation: Any, answer: Any) -> list[str]:
    """What of a JSON answer is not as the document says."""
    document = operation.schema.raw_schema
    described = resolved(document, operation.definition.raw["responses"][str(answer.status_code)])
    kind = "".join(answer.headers.get("content-type", [])[:1]).partition(";")[0]
    schema = described.get("content", {}).get(kind, {}).get("schema")
    return mistakes(resolved(document, schema), answer.json()) if schema and kind == "application/json" else []


def resolved(document: Any, node: Any) -> Any:
    while "$ref" in node:
        place = document
        for part in node["$ref"].removeprefix("#/").split("/"):
            place = place[part]
        node = place
    return node


def run(operations: list[Any], mode: GenerationMode, examples: int, session: Any) -> int:
    varied = (
        [op for op in operations if op.body or list(op.iter_parameters())]
        if mode is GenerationMode.NEGATIVE
        else operations
    )
    return sum(
        check(op, mode, examples if op.body or list(op.iter_parameters()) else 1, session)
        for op in varied
        if not op.path.endswith(("/load", "/unload")) or mode is GenerationMode.NEGATIVE
    )


@pytest.mark.parametrize("mode", MODES, ids=MODES.values())
def test_a_few_requests_of_each_kind(operations: list[Any], served: Server, session: Any, mode: GenerationMode) -> None:
    chosen = [op for op in operations if op.path.startswith(QUICK) or op.path.count("/") == 1]
    with quiet(served.log):
        assert run(chosen, mode, 12, session) > 20


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("mode", MODES, ids=MODES.values())
def test_many_requests_of_every_operation(
    operations: list[Any], served: Server, session: Any, mode: GenerationMode
) -> None:
    with quiet(served.log):
        assert run(operations, mode, 20, session) > 200
