"""Whether the servers of a model can answer: asked again and again, one task for each server.

At first, and whenever one comes back, it is asked what its model takes and gives, which must be what the others say;
while it is well only whether it is ready. Sends no batches.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from forwardpass.config import ModelConfig, RemoteConfig
from forwardpass.credentials import Token
from forwardpass.errors import InvalidModel, InvalidSettings
from forwardpass.gateway.balance import Server
from forwardpass.gateway.connection import Answer, Broken
from forwardpass.gateway.description import OURS, Description, describe
from forwardpass.gateway.protocol import error_of, json_of, model_path

log = logging.getLogger(__name__)

FIRST_WAIT = 0.1  # seconds until a server that is not well is asked again, twice as long each time
SHORTEST_WAIT = 0.02  # between two looks, whatever happens
PATIENCE = 5.0  # seconds for each answer


class Health:
    """Looks at ``servers`` until cancelled, each time with the ``token`` as it is then. ``changed`` is called after."""

    def __init__(
        self, name: str, config: ModelConfig, remote: RemoteConfig, token: Token, changed: Callable[[], None]
    ) -> None:
        self.description: Description | None = None  # as the first that answered gave it; never forgotten
        self._config = config
        self._remote = remote
        self._model = remote.model or name
        self._path = model_path(self._model, remote.version)
        self._token = token
        self._changed = changed

    async def watch(self, server: Server) -> None:
        wait = FIRST_WAIT
        while True:
            server.look.clear()
            try:
                self._heard(server, await self._look(server))
            except Exception as error:  # a watch that ended would leave the model as it is, without a word
                log.exception("%s at %s could not be looked at", self._model, server.url)
                self._heard(server, f"it could not be looked at ({type(error).__name__}); the log says why")
            every = self._remote.check_every
            wait = FIRST_WAIT if server.healthy else min(every, 2 * wait)
            await asyncio.sleep(SHORTEST_WAIT)
            with suppress(TimeoutError):
                async with asyncio.timeout(every if server.healthy else wait):
                    await server.look.wait()

    def _heard(self, server: Server, reason: str) -> None:
        """Nothing is wrong with it where there is no ``reason``."""
        if reason and (server.healthy or server.reason != reason):
            log.warning("%s at %s cannot be asked: %s", self._model, server.url, reason)
        elif not reason and not server.healthy:
            log.info("%s at %s is ready", self._model, server.url)
            server.breaker.probe_now()
        server.known = server.known and not reason
        server.healthy, server.reason = not reason, reason
        self._changed()

    async def _look(self, server: Server) -> str:
        """What is wrong with it, or ""."""
        try:
            self._token.renew()
            async with asyncio.timeout(min(PATIENCE, self._remote.timeout)):
                if not server.known:
                    await self._meet(server)
                    server.known = True
                answer = await server.pool.ask("GET", f"{self._path}/ready")
        except Broken as broken:
            return broken.why
        except TimeoutError:
            return "it does not answer"
        except (InvalidModel, InvalidSettings) as error:
            return error.message
        return "" if answer.status == 200 else f"it is not ready: {error_of(answer).message}"

    async def _meet(self, server: Server) -> None:
        """Raises ``InvalidModel`` where its model cannot be used, or is not what the others have."""
        answer = await server.pool.ask("GET", self._path)
        metadata = json_of(answer)
        if answer.status != 200 or metadata is None:
            raise InvalidModel(error_of(answer).message if answer.status != 200 else "its metadata is no JSON object")
        ours = str(metadata.get("platform", "")).startswith(OURS)
        settings = _good(await server.pool.ask("GET", f"{self._path}/config"))
        person = self._person(_good(await server.pool.ask("GET", "/models"))) if ours else None
        found = describe(metadata, settings, person, self._config)
        if self.description is None:
            self.description = found
        elif not self.description.fits(found):
            raise InvalidModel("its model takes or gives other tensors than that of the first server that answered")

    def _person(self, page: dict[str, Any] | None) -> dict[str, Any] | None:
        """Its entry of the model, as for people."""
        entries = (page or {}).get("models")
        entries = entries if isinstance(entries, list) else []
        mine = [entry for entry in entries if isinstance(entry, dict) and entry.get("name") == self._model]
        wanted = [entry for entry in mine if self._remote.version in (None, entry.get("version"))]
        return wanted[-1] if wanted else None


def _good(answer: Answer) -> dict[str, Any] | None:
    return json_of(answer) if answer.status == 200 else None
