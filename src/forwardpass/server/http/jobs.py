"""The endpoints of jobs: taken, listed, looked at, cancelled.

What keeps and runs them is handed in by ``cli``; it may wait for files, so it is asked on a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from forwardpass.errors import InvalidInput, NotFound
from forwardpass.server.dataplane import DataPlane
from forwardpass.server.http.batches import Batches
from forwardpass.server.http.bodies import json, json_body

Json = dict[str, Any]
JOBS = "/v1/jobs"


class Jobs(Protocol):
    """Keeps jobs and runs them on this server. All of it may block, and may be called from any thread."""

    def create(self, body: Any, locate: Callable[[str, str | None], tuple[str, str, Path]]) -> Json:
        """Take a job; ``locate`` gives name, version and path of a model. Raises ``InvalidInput`` or ``NotFound``."""

    def list(self) -> list[Json]:
        """Newest first."""

    def get(self, id: str) -> Json:
        """Raises ``NotFound``."""

    def cancel(self, id: str) -> Json:
        """Raises ``NotFound``."""

    def start(self) -> None:
        """The server answers from now on."""

    def stop(self) -> None:
        """It will not for long."""


@dataclass(frozen=True)
class Bulk:
    """What takes work in bulk, handed in by ``cli``: jobs over data sets, and batches of requests."""

    jobs: Jobs
    batches: Batches


class JobRoutes:
    """The endpoints; ``jobs`` None where the server takes none."""

    def __init__(self, dataplane: DataPlane, jobs: Jobs | None) -> None:
        self._dataplane = dataplane
        self._jobs = jobs

    def routes(self) -> list[Route]:
        return [
            Route(JOBS, self.create, methods=["POST"]),
            Route(JOBS, self.list),
            Route(f"{JOBS}/{{id}}", self.cancel, methods=["DELETE"]),
            Route(f"{JOBS}/{{id}}", self.get),
        ]

    async def create(self, request: Request) -> Response:
        jobs = self._taken()
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise InvalidInput(
                "send the job as JSON, with `content-type: application/json`"
            )  # no web page may, unasked
        job = await asyncio.to_thread(jobs.create, await json_body(request), self._locate)
        return json(job, 201, {"location": f"{JOBS}/{job['id']}"})

    async def list(self, request: Request) -> Response:
        return json({"jobs": await asyncio.to_thread(self._taken().list)})

    async def get(self, request: Request) -> Response:
        return json(await asyncio.to_thread(self._taken().get, request.path_params["id"]))

    async def cancel(self, request: Request) -> Response:
        return json(await asyncio.to_thread(self._taken().cancel, request.path_params["id"]))

    def _taken(self) -> Jobs:
        if self._jobs is None:
            raise NotFound(
                "this server takes no jobs; start it with --jobs DIR, the folder that they may read and write"
            )
        return self._jobs

    def _locate(self, name: str, version: str | None) -> tuple[str, str, Path]:
        served = self._dataplane.model(name, version)
        return served.name, served.version, served.location.path
