"""OpenAI's endpoints for files and batches of requests. Their errors have OpenAI's form too.

What keeps the files and runs the batches is handed in by ``cli``; it is asked on a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from forwardpass.errors import ForwardpassError, InvalidInput, NotFound
from forwardpass.server.http.bodies import json, json_body
from forwardpass.server.http.multipart import read_form
from forwardpass.server.http.status import STATUS

Json = dict[str, Any]
Endpoint = Callable[[Request], Awaitable[Response]]
FILES, BATCHES = "/v1/files", "/v1/batches"
PAGE = 100  # things of a list, unless the caller says


class Shown(Protocol):
    """Anything that OpenAI's API shows."""

    def shown(self) -> Json: ...


class Files(Protocol):
    """Files that callers hand in, and those that batches write. ``find`` and ``delete`` raise ``NotFound``."""

    def add(self, filename: str, purpose: str, content: bytes) -> Shown: ...
    def find(self, id: str) -> Shown: ...
    def path(self, id: str) -> Path: ...
    def delete(self, id: str) -> None: ...
    def all(self) -> list[Any]: ...


class Batches(Protocol):
    """Batches, as OpenAI's clients read them. All of it may block."""

    @property
    def files(self) -> Files: ...
    def create(self, body: Json) -> Json: ...
    def get(self, id: str) -> Json: ...
    def cancel(self, id: str) -> Json: ...
    def all(self) -> list[Json]: ...


class BatchRoutes:
    """The endpoints; ``batches`` None where the server takes none."""

    def __init__(self, batches: Batches | None) -> None:
        self._batches = batches

    def routes(self) -> list[Route]:
        return [
            Route(FILES, _told(self.upload), methods=["POST"]),
            Route(FILES, _told(self.files)),
            Route(f"{FILES}/{{id}}", _told(self.delete), methods=["DELETE"]),
            Route(f"{FILES}/{{id}}", _told(self.file)),
            Route(f"{FILES}/{{id}}/content", _told(self.content)),
            Route(BATCHES, _told(self.create), methods=["POST"]),
            Route(BATCHES, _told(self.batches)),
            Route(f"{BATCHES}/{{id}}", _told(self.batch)),
            Route(f"{BATCHES}/{{id}}/cancel", _told(self.cancel), methods=["POST"]),
        ]

    async def upload(self, request: Request) -> Response:
        files = self._taken().files
        form = read_form(request.headers.get("content-type", ""), await request.body())
        if missing := [name for name in ("file", "purpose") if name not in form]:
            raise InvalidInput(f"the form has no field {missing[0]!r}")
        file, purpose = form["file"], form["purpose"].content.decode(errors="replace")
        return json((await asyncio.to_thread(files.add, file.filename or "file", purpose, file.content)).shown())

    async def files(self, request: Request) -> Response:
        found = await asyncio.to_thread(self._taken().files.all)
        return json(_page([file.shown() for file in found], request))

    async def file(self, request: Request) -> Response:
        return json((await asyncio.to_thread(self._taken().files.find, request.path_params["id"])).shown())

    async def content(self, request: Request) -> Response:
        files, name = self._taken().files, request.path_params["id"]
        await asyncio.to_thread(files.find, name)
        return FileResponse(files.path(name), media_type="application/octet-stream")

    async def delete(self, request: Request) -> Response:
        name = request.path_params["id"]
        await asyncio.to_thread(self._taken().files.delete, name)
        return json({"id": name, "object": "file", "deleted": True})

    async def create(self, request: Request) -> Response:
        batches = self._taken()
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise InvalidInput("send the batch as JSON, with `content-type: application/json`")
        return json(await asyncio.to_thread(batches.create, await json_body(request)))

    async def batches(self, request: Request) -> Response:
        return json(_page(await asyncio.to_thread(self._taken().all), request))

    async def batch(self, request: Request) -> Response:
        return json(await asyncio.to_thread(self._taken().get, request.path_params["id"]))

    async def cancel(self, request: Request) -> Response:
        return json(await asyncio.to_thread(self._taken().cancel, request.path_params["id"]))

    def _taken(self) -> Batches:
        if self._batches is None:
            raise NotFound("this server takes no batches; start it with --jobs DIR, the folder that keeps their files")
        return self._batches


def _page(items: list[Json], request: Request) -> Json:
    """A page of a list, behind the item that ``after`` names."""
    limit, after = request.query_params.get("limit", str(PAGE)), request.query_params.get("after")
    if not limit.isdigit() or not 0 < int(limit) <= 10_000:
        raise InvalidInput(f"limit {limit!r}: give a number from 1 to 10000")
    if after is not None:
        place = next((at for at, item in enumerate(items) if item["id"] == after), None)
        if place is None:
            raise NotFound(f"after: there is no {after!r}")
        items = items[place + 1 :]
    page = items[: int(limit)]
    ends = {"first_id": page[0]["id"] if page else None, "last_id": page[-1]["id"] if page else None}
    return {"object": "list", "data": page, **ends, "has_more": len(items) > len(page)}


def _told(endpoint: Endpoint) -> Endpoint:
    """The endpoint with its errors in OpenAI's form."""

    async def told(request: Request) -> Response:
        try:
            return await endpoint(request)
        except ForwardpassError as error:
            status = STATUS[error.outcome]
            kind = "invalid_request_error" if status < 500 else "server_error"
            return json({"error": {"message": error.message, "type": kind, "param": None, "code": None}}, status)

    return told
