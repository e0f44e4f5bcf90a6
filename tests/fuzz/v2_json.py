"""Fuzz target: the V2 decoder for JSON bodies, and the encoder with what was decoded.

The first byte chooses the model, the rest is the body. A body is decoded into columns of the
declared types, or refused with an error of ours; what was decoded can be answered with.
"""

from __future__ import annotations

import atheris

with atheris.instrument_imports(include=["forwardpass.server", "forwardpass.engine"]):
    import numpy as np
    import orjson
    from tests.fuzz.models import SIGNATURES, served
    from tests.fuzz.runner import fuzz
    from tests.fuzz.v2_requests import as_json

    from forwardpass.errors import InvalidInput
    from forwardpass.server.http.exchange import Exchange, Head, create_head
    from forwardpass.server.http.v2 import V2Route

np.seterr(over="raise")  # as the server does
ROUTES = [V2Route(served(name)) for name in SIGNATURES]


def decoded(head: Head, body: bytes) -> Exchange | None:
    """The request, checked against the signature; None where it is refused."""
    exchange = Exchange(None, head, body)  # type: ignore[arg-type]
    exchange.arrived = 0.0
    try:
        head.route.decode(exchange)
    except InvalidInput as error:
        refusal = error.message
    else:
        refusal = ""
    if refusal:
        assert len(refusal) < 4000, "a message fits on a screen"
        return None
    signature = head.route.served.signature
    assert set(exchange.columns) == {spec.name for spec in signature.inputs}
    for spec in signature.inputs:
        array = exchange.columns[spec.name]
        assert array.dtype == spec.tensor.dtype.numpy
        assert array.ndim == len(spec.tensor.shape)
        assert all(axis in (None, size) for size, axis in zip(array.shape, spec.tensor.shape, strict=True))
        assert not signature.batched or len(array) == exchange.rows
    assert 0 < exchange.deadline <= head.route.served.limits.timeout
    return exchange


def answerable(exchange: Exchange) -> None:
    try:
        kind, body = exchange.head.route.encode(exchange, exchange.columns)
    except InvalidInput:
        return  # bytes that are no text, asked for as JSON
    split = len(body)
    for line in kind.split(b"\r\n"):
        name, _, value = line.partition(b": ")
        split = int(value) if name == b"inference-header-content-length" else split
    said = orjson.loads(body[:split])
    assert said.get("id", "") == exchange.id
    sizes = [output.get("parameters", {}).get("binary_data_size", 0) for output in said["outputs"]]
    assert split + sum(sizes) == len(body)


def target(data: bytes) -> None:
    route = ROUTES[data[0] % len(ROUTES)] if data else ROUTES[0]
    exchange = decoded(create_head(route, [], True), data[1:])
    if exchange is not None:
        answerable(exchange)


def seeds() -> list[bytes]:
    found = []
    for index, name in enumerate(SIGNATURES):
        found.append(bytes([index]) + as_json(name))
        found.append(bytes([index]) + as_json(name, id="i", parameters={"timeout": 1000, "binary_data_output": True}))
        output = {"name": SIGNATURES[name][1][0].name, "parameters": {"binary_data": True}}
        found.append(bytes([index]) + as_json(name, outputs=[output]))
    return found


if __name__ == "__main__":
    fuzz(target, seeds())
