"""The endpoints of the intake: devices send what their outboxes hold, people look at what arrived.

Bodies are unpacked, decoded and kept on a thread; the event loop waits for none of it.
"""

from __future__ import annotations

import asyncio

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from forwardpass.errors import InvalidInput, NotFound
from forwardpass.server.http.bodies import json
from forwardpass.server.intake import MOST_PAGE, PAGE, Intake

INTAKE = "/v1/intake"
MOST_NUMBER = 2**63 - 1


class IntakeRoutes:
    """The endpoints; ``intake`` None where the server takes nothing in."""

    def __init__(self, intake: Intake | None) -> None:
        self._intake = intake

    def routes(self) -> list[Route]:
        return [
            Route(INTAKE, self.take, methods=["POST"]),
            Route(INTAKE, self.counts),
            Route(f"{INTAKE}/entries", self.entries),
        ]

    async def take(self, request: Request) -> Response:
        intake = self._open()
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise InvalidInput(
                "send the entries as JSON, with `content-type: application/json`"
            )  # no web page may, unasked
        encoding = request.headers.get("content-encoding", "").strip().lower()
        return json(await asyncio.to_thread(intake.take, await request.body(), encoding))

    async def counts(self, request: Request) -> Response:
        return json({"devices": await asyncio.to_thread(self._open().counts)})

    async def entries(self, request: Request) -> Response:
        intake, asked = self._open(), request.query_params
        after, limit = _number(request, "after", 0, 0, MOST_NUMBER), _number(request, "limit", PAGE, 1, MOST_PAGE)
        found = await asyncio.to_thread(intake.entries, asked.get("device"), asked.get("kind"), after, limit)
        shown = [entry | {"body": orjson.Fragment(entry["body"])} for entry in found]  # checked when it arrived
        return json({"entries": shown, "next": found[-1]["number"] if len(found) == limit else None})

    def _open(self) -> Intake:
        if self._intake is None:
            raise NotFound("this server takes nothing in from devices; start it with --intake DIR, which keeps it")
        return self._intake


def _number(request: Request, name: str, default: int, least: int, most: int) -> int:
    text = request.query_params.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most):
        raise InvalidInput(f"{name} {text[:50]!r}: give a whole number from {least} to {most}")
    return int(text)
