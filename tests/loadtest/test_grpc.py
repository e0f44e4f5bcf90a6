"""gRPC as a target, against a real server that takes any bytes."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from forwardpass.loadtest import GrpcTarget, Result, closed, run

METHOD = "/test.Echo/Say"


class Echo(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Says bytes again; ``refuse``, ``wrong`` and ``slow`` do what they say."""

    def service(self, details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(self.say) if details.method == METHOD else None

    async def say(self, request: bytes, context: Any) -> bytes:
        if request == b"refuse":
            context.set_trailing_metadata((("retry-after", "3"),))
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the queue is full")
        if request == b"wrong":
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no such input")
        if request == b"slow":
            await asyncio.sleep(5)
        return request


async def measured(*requests: bytes, timeout: float | None = None) -> Result:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Echo(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    target = GrpcTarget("grpc", requests, address=f"127.0.0.1:{port}", method=METHOD, timeout=timeout)
    try:
        return await closed(target, 2, 0.3, check=lambda index, status, headers, body: body == requests[index])
    finally:
        await server.stop(None)


def test_answers() -> None:
    result = run(measured(b"a", b"b"))
    assert result.ok == result.sent > 10
    assert result.failed == 0


def test_statuses_read_as_those_of_http() -> None:
    result = run(measured(b"a", b"refuse", b"wrong"))
    assert result.statuses.keys() == {200, 400, 503}
    assert result.errors == {"status 400": result.statuses[400]}
    assert "no such input" in result.first_error
    assert result.refused.count == result.retry_after.count == result.statuses[503]
    assert result.retry_after.max == 3.0


def test_a_deadline() -> None:
    result = run(measured(b"slow", timeout=0.05))
    assert result.statuses.keys() == {504}


def test_nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forwardpass.loadtest.grpc.CONNECT_TIMEOUT", 0.2)
    with pytest.raises(OSError, match="no gRPC server answers at"):
        run(closed(GrpcTarget("grpc", [b""], address="127.0.0.1:1"), 1, 0.1))
