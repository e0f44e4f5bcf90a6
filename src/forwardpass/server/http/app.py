"""Everything over HTTP but the fast lane: health, metadata, statistics, the repository, pages.

An ordinary Starlette application. A predict request comes here only when its model cannot answer;
it then gets the error that says why.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from forwardpass.errors import ForwardpassError, InvalidInput, NotFound, nearest
from forwardpass.server import metadata
from forwardpass.server.control import Control
from forwardpass.server.dataplane import DataPlane
from forwardpass.server.http import openapi, page
from forwardpass.server.http.batches import BatchRoutes
from forwardpass.server.http.bodies import json, json_body
from forwardpass.server.http.intake import IntakeRoutes
from forwardpass.server.http.jobs import Bulk, JobRoutes
from forwardpass.server.http.samples import read_sample, read_samples
from forwardpass.server.http.status import STATUS, error_body, error_headers
from forwardpass.server.intake import Intake
from forwardpass.server.served import ServedModel
from forwardpass.server.statistics import Statistics
from forwardpass.types import Outcome

Endpoint = Callable[[Request], Awaitable[Response]]
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class App:
    """The endpoints, over a data plane, its control plane, its statistics, what takes work in bulk, and the intake."""

    def __init__(
        self,
        dataplane: DataPlane,
        control: Control,
        statistics: Statistics,
        bulk: Bulk | None = None,
        intake: Intake | None = None,
    ) -> None:
        self.dataplane = dataplane
        self.control = control
        self._statistics = statistics
        self._bulk = bulk
        self._intake = intake

    def build(self) -> Starlette:
        """The ASGI application."""
        handlers: dict[Any, Any] = {
            ForwardpassError: _forwardpass_error,
            HTTPException: _http_error,
            ClientDisconnect: _client_left,
            Exception: _unexpected_error,
        }
        return Starlette(routes=self._routes(), exception_handlers=handlers)

    def _routes(self) -> list[Route]:
        model = "/v2/models/{name}"
        version = model + "/versions/{version}"
        return [
            Route("/", self.page),
            Route("/page/{file}", self.page_file),
            Route("/models", self.models),
            Route("/models/{name}/sample", self.sample),
            Route("/models/{name}/versions/{version}/sample", self.sample),
            Route("/openapi.json", self.openapi),
            Route("/metrics", self.expose),
            Route("/livez", self.live),
            Route("/readyz", self.ready),
            Route("/ping", self.ready),
            Route("/v2", self.server),
            Route("/v2/health/live", self.server_live),
            Route("/v2/health/ready", self.server_ready),
            Route("/v2/models/stats", self.all_statistics),
            Route("/v2/repository/index", self.index, methods=["POST"]),
            Route("/v2/repository/models/{name}/load", self.load, methods=["POST"]),
            Route("/v2/repository/models/{name}/unload", self.unload, methods=["POST"]),
            *(Route(prefix, self.model) for prefix in (model, version)),
            *(Route(f"{prefix}/ready", self.model_ready) for prefix in (model, version)),
            *(Route(f"{prefix}/config", self.model_config) for prefix in (model, version)),
            *(Route(f"{prefix}/stats", self.statistics) for prefix in (model, version)),
            *(Route(f"{prefix}/infer", self.cannot_infer, methods=["POST"]) for prefix in (model, version)),
            Route("/v1/models", self.names),
            Route("/v1/models/{name}/versions/{version}:predict", self.cannot_infer, methods=["POST"]),
            Route("/v1/models/{name}:predict", self.cannot_infer, methods=["POST"]),
            Route("/v1/models/{name}", self.v1_model),
            Route("/invocations", self.cannot_invoke, methods=["POST"]),
            *JobRoutes(self.dataplane, self._bulk.jobs if self._bulk else None).routes(),
            *BatchRoutes(self._bulk.batches if self._bulk else None).routes(),
            *IntakeRoutes(self._intake).routes(),
        ]

    # Health

    async def live(self, request: Request) -> Response:
        return Response(status_code=200)

    async def ready(self, request: Request) -> Response:
        self.dataplane.require_ready()
        return Response(status_code=200)

    async def server_live(self, request: Request) -> Response:
        return json({"live": True})

    async def server_ready(self, request: Request) -> Response:
        self.dataplane.require_ready()
        return json({"live": True, "ready": True})  # the protocol's text says one, its clients read the other

    async def model_ready(self, request: Request) -> Response:
        served = self._served(request)
        served.require_ready()
        return json({"name": served.name, "ready": True})

    # Metadata and statistics

    async def server(self, request: Request) -> Response:
        return json(metadata.of_server("binary_tensor_data"))

    async def model(self, request: Request) -> Response:
        served = self._served(request)
        versions = [item.version for item in self.dataplane.versions(served.name)]
        return json(metadata.of_model(served, versions))

    async def model_config(self, request: Request) -> Response:
        return json(metadata.of_config(self._served(request)))

    async def statistics(self, request: Request) -> Response:
        if "version" in request.path_params:
            chosen = [self._served(request)]
        else:
            self._served(request)
            chosen = self.dataplane.versions(request.path_params["name"])
        return json({"model_stats": await self._statistics.of(chosen)})

    async def all_statistics(self, request: Request) -> Response:
        return json({"model_stats": await self._statistics.of(self.dataplane.all())})

    async def expose(self, request: Request) -> Response:
        return Response(await self._statistics.exposition(), media_type=METRICS_TYPE)

    # The repository

    async def index(self, request: Request) -> Response:
        only_ready = bool((await json_body(request)).get("ready"))
        return json(metadata.of_repository(self.dataplane.all(), self.control.locations(), only_ready=only_ready))

    async def load(self, request: Request) -> Response:
        self.control.require_allowed()
        parameters = (await json_body(request)).get("parameters") or {}
        await self.control.load(request.path_params["name"], parameters)
        return json({})

    async def unload(self, request: Request) -> Response:
        self.control.require_allowed()
        await json_body(request)
        await self.control.unload(request.path_params["name"])
        return json({})

    # V1, and predict requests that cannot be answered

    async def names(self, request: Request) -> Response:
        return json({"models": sorted(self.dataplane.models)})

    async def v1_model(self, request: Request) -> Response:
        served = self._served(request)
        return json({"name": served.name, "ready": served.ready})

    async def cannot_infer(self, request: Request) -> Response:
        self._served(request).require_ready()
        raise NotFound(f"there is nothing at {request.url.path}")

    async def cannot_invoke(self, request: Request) -> Response:
        names = sorted(self.dataplane.models)
        if len(names) == 1:
            self.dataplane.model(names[0]).require_ready()
        raise InvalidInput(
            f"/invocations needs exactly one model, and {len(names)} are served ({', '.join(names)}); "
            "use /v1/models/NAME:predict"
        )

    # For people

    async def page(self, request: Request) -> Response:
        return page.file("index.html")

    async def page_file(self, request: Request) -> Response:
        return page.file(request.path_params["file"])

    async def models(self, request: Request) -> Response:
        return json({"models": [metadata.for_people(served) for served in self.dataplane.all()]})

    async def openapi(self, request: Request) -> Response:
        served, url = self.dataplane.all(), str(request.base_url).rstrip("/")
        taken = openapi.Taken(jobs=self._bulk is not None, intake=self._intake is not None)
        return json(openapi.document(served, url, read_samples(served), taken))

    async def sample(self, request: Request) -> Response:
        sample = read_sample(self._served(request))
        return Response(sample.content, 200, {"x-content-type-options": "nosniff"}, sample.content_type)

    def _served(self, request: Request) -> ServedModel:
        return self.dataplane.model(request.path_params["name"], request.path_params.get("version"))


async def _forwardpass_error(request: Request, error: ForwardpassError) -> Response:  # noqa: ARG001
    headers = {name.decode(): value.decode() for name, value in error_headers(error)}
    return Response(error_body(error), STATUS[error.outcome], headers, "application/json")


async def _http_error(request: Request, error: HTTPException) -> Response:
    path = request.url.path
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        message = f"{request.method} is not allowed at {path}; use {allowed}"
    elif error.status_code == 404:
        known = ["/v2", "/v2/models/NAME/infer", "/v1/models/NAME:predict", "/openapi.json", "/metrics", "/v1/jobs"]
        message = f"there is nothing at {path}.{nearest(path, known)}"
    else:
        message = str(error.detail)
    body = orjson.dumps({"error": message})
    return Response(body, error.status_code, dict(error.headers or {}), "application/json")


async def _client_left(request: Request, error: Exception) -> Response:  # noqa: ARG001
    """Before its body had arrived; nobody reads this."""
    return Response(status_code=STATUS[Outcome.CANCELLED])


async def _unexpected_error(request: Request, error: Exception) -> Response:  # noqa: ARG001
    return json({"error": "the server failed; its log says why"}, 500)
