"""Fuzz target: the V2 decoder for raw tensors behind a JSON header, whose headers are remembered.

The first byte chooses the model, the next two say where the header ends. Decoded three times: as a
stranger, as one whose header may be known, and by a route that never saw it. All must agree.
"""

from __future__ import annotations

import atheris

with atheris.instrument_imports(include=["forwardpass.server", "forwardpass.engine"]):
    from tests.fuzz.models import SIGNATURES, served
    from tests.fuzz.runner import fuzz
    from tests.fuzz.v2_json import ROUTES, answerable, decoded
    from tests.fuzz.v2_requests import as_binary

    from forwardpass.server.http.exchange import Exchange, create_head
    from forwardpass.server.http.v2 import V2Route
    from forwardpass.server.tensors import bytes_from_array


def facts(exchange: Exchange | None) -> object:
    if exchange is None:
        return None
    columns = {
        name: (array.dtype, array.shape, bytes_from_array(array)) for name, array in sorted(exchange.columns.items())
    }
    return columns, exchange.rows, exchange.id, exchange.binary, exchange.deadline, exchange.key


def target(data: bytes) -> None:
    index = data[0] % len(ROUTES) if data else 0
    split = int.from_bytes(data[1:3], "little")
    lines = [(b"Inference-Header-Content-Length", b"%d" % split)]
    known = create_head(ROUTES[index], lines, True)
    first = decoded(known, data[3:])
    second = decoded(known, data[3:])
    fresh = V2Route(served(list(SIGNATURES)[index]))
    third = decoded(create_head(fresh, lines, True), data[3:])
    assert facts(first) == facts(second) == facts(third)
    if first is not None:
        answerable(first)


def seeds() -> list[bytes]:
    found = []
    for index, name in enumerate(SIGNATURES):
        for more in ({}, {"id": "i"}, {"parameters": {"binary_data_output": True}}):
            header, tail = as_binary(name, **more)
            found.append(bytes([index]) + len(header).to_bytes(2, "little") + header + tail)
    return found


if __name__ == "__main__":
    fuzz(target, seeds())
