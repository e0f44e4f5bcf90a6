"""What a request is called, and compressed bodies: unpacked whole or refused."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwardpass.errors import InvalidInput, TooLarge
from forwardpass.registry import ModelLocation
from forwardpass.server.http.exchange import Exchange, Route, create_head, decompressed
from forwardpass.server.http.v1 import V1Route
from forwardpass.server.http.v2 import V2Route
from forwardpass.server.served import ServedModel
from forwardpass.types import DType, InputSpec, Signature, TensorSpec

PACK: dict[bytes, Callable[..., bytes]] = {b"gzip": gzip.compress, b"deflate": zlib.compress}


@given(st.sampled_from(sorted(PACK)), st.binary(max_size=200))
def test_there_and_back(coding: bytes, body: bytes) -> None:
    packed = PACK[coding](body)
    assert decompressed(packed, coding, len(body)) == body
    with pytest.raises(InvalidInput, match="cut off"):
        decompressed(packed[:-1], coding, 200)
    with pytest.raises(InvalidInput, match="1 bytes come after"):
        decompressed(packed + b"!", coding, 200)


@pytest.mark.parametrize("coding", sorted(PACK))
def test_the_limit_is_on_what_comes_out(coding: bytes) -> None:
    packed = PACK[coding](bytes(1000))
    assert len(decompressed(packed, coding, 1000)) == 1000
    with pytest.raises(TooLarge, match="999 bytes"):
        decompressed(packed, coding, 999)


@pytest.mark.parametrize("coding", [b"", b"identity"])
def test_no_coding(coding: bytes) -> None:
    assert decompressed(b"as it is", coding, 3) == b"as it is"


def test_what_is_not_packed() -> None:
    with pytest.raises(InvalidInput, match="not valid gzip"):
        decompressed(b"plain", b"gzip", 100)
    with pytest.raises(InvalidInput, match="'zstd' is not known; use gzip"):
        decompressed(b"plain", b"zstd", 100)


# What a request is called

V1, V2 = {"instances": [[1.0, 2.0]]}, {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}


@pytest.mark.parametrize(
    ("kind", "body", "headers", "wanted"),
    [
        (V1Route, V1, [], ""),
        (V1Route, V1, [(b"X-Request-ID", b"head")], "head"),
        (V2Route, V2, [], ""),
        (V2Route, V2, [(b"x-request-id", b"head")], "head"),
        (V2Route, {**V2, "id": "body"}, [], "body"),
        (V2Route, {**V2, "id": "body"}, [(b"x-request-id", b"head")], "body"),
    ],
)
def test_the_id_is_that_of_the_body_else_that_of_the_head(
    kind: Any, body: dict[str, Any], headers: list[tuple[bytes, bytes]], wanted: str
) -> None:
    """Its answer repeats each where it was."""
    served = ServedModel(ModelLocation("m", "1", Path("m")))
    tensor = TensorSpec("x", DType.FP32, (None, 2))
    served.signature = Signature((InputSpec(tensor),), (tensor,), batched=True)
    route: Route = kind(served)
    exchange = Exchange(cast(Any, None), create_head(route, headers, True), orjson.dumps(body))
    exchange.arrived = 0.0
    route.decode(exchange)
    assert exchange.id == wanted
    _, answer = route.encode(exchange, {"x": np.ones((1, 2), np.float32)})
    assert orjson.loads(answer).get("id") == body.get("id")
    assert exchange.head.echo == (b"x-request-id: head\r\n" if headers else b"")
