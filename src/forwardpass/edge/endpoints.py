"""Everything over HTTP but predictions: health, metadata, status and metrics, as answers by path.

The bodies of what the server has too are the server's. Knows no connection; ``door`` brings the
requests here. Nothing here loads or unloads models: that is for the agent's updates.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from forwardpass.errors import ForwardpassError, InvalidInput, NotFound, nearest
from forwardpass.server import metadata
from forwardpass.server.dataplane import DataPlane
from forwardpass.server.http.status import STATUS, error_body, error_headers
from forwardpass.server.served import ServedModel

log = logging.getLogger(__name__)

Pair = tuple[bytes, bytes]
METRICS_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
JSON: Pair = (b"content-type", b"application/json")
KNOWN = ("/v2", "/v2/models/NAME/infer", "/v1/models/NAME:predict", "/status", "/metrics", "/readyz")


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back; ``headers`` without those that every answer has."""

    status: int
    headers: Sequence[Pair]
    body: bytes


def json(content: Any, status: int = 200) -> Answer:
    return Answer(status, [JSON], orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY))


def failed(error: ForwardpassError, echo: bytes = b"") -> Answer:
    """An error of ours, with the header line to echo, if any."""
    echoed = [(name, value) for name, _, value in [echo.rstrip(b"\r\n").partition(b": ")] if name]
    return Answer(STATUS[error.outcome], [JSON, *error_headers(error), *echoed], error_body(error))


class Endpoints:
    """``require_ready`` raises ``NotReady`` while the device cannot answer.

    ``status`` and ``exposition`` are asked for what to show; ``commands`` are what may be asked by POST.
    """

    def __init__(
        self,
        dataplane: DataPlane,
        require_ready: Callable[[], None],
        status: Callable[[], Awaitable[dict[str, Any]]],
        exposition: Callable[[], Awaitable[bytes]],
        commands: dict[str, Callable[[], None]] | None = None,
    ) -> None:
        self._dataplane = dataplane
        self._require_ready = require_ready
        self._status = status
        self._exposition = exposition
        self._commands = commands or {}
        self._exact: dict[str, Callable[[], Any]] = {
            "/livez": lambda: Answer(200, [], b""),
            "/readyz": self._ready,
            "/ping": self._ready,
            "/metrics": self._metrics,
            "/status": self._tell_status,
            "/v2": lambda: json(metadata.of_server("binary_tensor_data")),
            "/v2/health/live": lambda: json({"live": True}),
            "/v2/health/ready": self._server_ready,
            "/v1/models": lambda: json({"models": sorted(dataplane.models)}),
        }

    async def answer(self, method: str, path: str, body: bytes) -> Answer:
        """The answer to anything that is not a prediction a model can give now."""
        try:
            if method == "POST":
                return self._post(path)
            if method not in ("GET", "HEAD"):
                return json({"error": f"{method} is not allowed at {path}; use GET or POST"}, 405)
            exact = self._exact.get(path)
            answer = exact() if exact is not None else self._model(path)
            return await answer if inspect.isawaitable(answer) else answer
        except ForwardpassError as error:
            return failed(error)
        except Exception:
            log.exception("no answer to %s %s", method, path)
            return json({"error": "the agent failed at this; its log says why"}, 500)

    def _post(self, path: str) -> Answer:
        """A command, or a prediction that no model can give: why not."""
        if path in self._commands:
            self._commands[path]()
            return json({}, 202)
        served = self._asked(path)
        if served is not None:
            served.require_ready()
        if path == "/invocations":
            names = ", ".join(sorted(self._dataplane.models))
            raise InvalidInput(f"/invocations needs exactly one model that is ready; here are: {names}")
        if path in self._exact:
            return json({"error": f"POST is not allowed at {path}; use GET"}, 405)
        raise NotFound(f"there is nothing at {path}.{nearest(path, KNOWN)}")

    def _asked(self, path: str) -> ServedModel | None:
        """The model of a predict URL. Raises ``NotFound`` where there is none of its name."""
        parts = path.strip("/").split("/")
        if parts[:2] == ["v2", "models"] and parts[-1:] == ["infer"]:
            return self._served(parts[2:-1])
        if parts[:2] == ["v1", "models"] and path.endswith(":predict"):
            return self._served([*parts[2:-1], parts[-1].removesuffix(":predict")])
        return None

    def _model(self, path: str) -> Answer:
        """Metadata and readiness of one model."""
        parts = path.strip("/").split("/")
        if parts[:2] == ["v1", "models"] and len(parts) == 3:
            served = self._served(parts[2:])
            return json({"name": served.name, "ready": served.ready})
        if parts[:2] == ["v2", "models"] and len(parts) > 2:
            last = parts[-1] if parts[-1] in ("ready", "config") and len(parts) > 3 else ""
            served = self._served(parts[2 : len(parts) - bool(last)])
            if last == "ready":
                served.require_ready()
                return json({"name": served.name, "ready": True})
            if last == "config":
                return json(metadata.of_config(served))
            return json(metadata.of_model(served, [item.version for item in self._dataplane.versions(served.name)]))
        raise NotFound(f"there is nothing at {path}.{nearest(path, KNOWN)}")

    def _served(self, parts: list[str]) -> ServedModel:
        match parts:
            case [name]:
                return self._dataplane.model(name)
            case [name, "versions", version]:
                return self._dataplane.model(name, version)
        raise NotFound(f"there is nothing at /{'/'.join(parts)}.{nearest('/'.join(parts), KNOWN)}")

    def _ready(self) -> Answer:
        self._require_ready()
        return Answer(200, [], b"")

    def _server_ready(self) -> Answer:
        self._require_ready()
        return json({"live": True, "ready": True})

    async def _tell_status(self) -> Answer:
        return json(await self._status())

    async def _metrics(self) -> Answer:
        return Answer(200, [(b"content-type", METRICS_TYPE)], await self._exposition())
