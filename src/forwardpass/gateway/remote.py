"""A model that lies elsewhere: its batches go to one of several servers, and their answers come back.

    batch ─► least busy server that is well (balance) ─► infer over HTTP (connection, protocol) ─► rows to their owners
                    ▲                                         │ failed where that is safe
                    └──────────── budget (retries) ◄──────────┘

An ordinary queue stands before it, so deadlines, limits and records are those of any model. Knows no door.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from forwardpass.address import Address
from forwardpass.config import RemoteConfig
from forwardpass.credentials import Token
from forwardpass.engine.messages import ReadyHead
from forwardpass.errors import (
    BackendFailed,
    ForwardpassError,
    InvalidInput,
    InvalidModel,
    NotReady,
    Overloaded,
    TimedOut,
)
from forwardpass.gateway.balance import NOT_ASKED, Balance, Server
from forwardpass.gateway.breaker import BreakerState
from forwardpass.gateway.connection import Answer, Broken
from forwardpass.gateway.description import information
from forwardpass.gateway.health import Health
from forwardpass.gateway.passing import Answered, PassingReplicas
from forwardpass.gateway.protocol import columns_of, error_of, infer_body, is_safe, model_path
from forwardpass.gateway.retries import MAX_DEATHS, Failed, RetryBudget
from forwardpass.monitoring.metrics import Gauge
from forwardpass.scheduler import Batch, Request
from forwardpass.scheduler.batch import stack
from forwardpass.server.composed import Composition
from forwardpass.server.served import State
from forwardpass.types import Columns

BACKGROUND = ("x-priority", "background")


class Remote:
    """``clock`` is that of arrivals and deadlines."""

    members: tuple[str, ...] = ()
    restarts = 0

    def __init__(
        self,
        composition: Composition,
        remote: RemoteConfig,
        clock: Callable[[], float],
        chance: random.Random,
        withheld: str = "",
    ) -> None:
        """``withheld``: why rows may not be sent. Raises ``InvalidModel`` where it cannot be meant so."""
        self.check(remote)
        self.retries = 0
        self.withheld = withheld
        self._token = Token(remote.token_env, None if remote.token_file is None else Path(remote.token_file))
        self.servers = [Server.at(url, clock, self._token) for url in remote.urls]
        self._composition = composition
        self._remote = remote
        self._clock = clock
        self._balance = Balance(self.servers, remote.concurrency, chance)
        self._budget = RetryBudget(remote.retry_share)
        name = composition.served.name
        self._health = Health(name, composition.files.config, remote, self._token, self._looked)
        self._path = f"{model_path(remote.model or name, remote.version)}/infer"
        self._replicas = PassingReplicas(remote.concurrency * len(self.servers), self._answer)
        self._watchers: list[asyncio.Task[None]] = []

    @staticmethod
    def check(remote: RemoteConfig) -> None:
        """Raises ``InvalidModel`` naming a value that means nothing."""
        try:
            addresses = [Address.base(url) for url in remote.urls]
        except InvalidInput as error:
            raise InvalidModel(f"remote: {error.message}") from None
        if not addresses:
            raise InvalidModel("remote: `urls` names no server")
        if len(set(addresses)) < len(addresses):
            raise InvalidModel("remote: `urls` names a server twice")
        for key in ("concurrency", "timeout", "check_every"):
            if not getattr(remote, key) > 0:
                raise InvalidModel(f"remote: `{key}` must be above 0, got {getattr(remote, key)}")
        if remote.retries < 0 or not 0 <= remote.retry_share <= 1:
            raise InvalidModel("remote: `retries` must be 0 or more, and `retry_share` between 0 and 1")
        if remote.token_env is not None and remote.token_file is not None:
            raise InvalidModel("remote: either `token_env` or `token_file`, not both")
        if remote.token_file is not None and not Path(remote.token_file).is_absolute():
            raise InvalidModel(f"remote: `token_file` must be an absolute path, got {remote.token_file!r}")

    @property
    def count(self) -> int:
        return self._replicas.count

    @property
    def ready(self) -> int:
        return self._replicas.ready

    def start(self) -> None:
        self._watchers = [asyncio.ensure_future(self._health.watch(server)) for server in self.servers]

    async def stop(self) -> None:
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        await self._replicas.stop()
        for server in self.servers:
            server.pool.close()

    # Becoming ready

    def _looked(self) -> None:
        """A server has been asked how it is."""
        self._balance.changed()
        description = self._health.description
        if description is None or not any(server.healthy for server in self.servers):
            if all(server.reason != NOT_ASKED for server in self.servers):
                reasons = "; ".join(server.why_not() for server in self.servers)
                self._composition.waits(reasons, not self._token.missing)
            return
        if self._replicas.ready:
            self._composition.answers()
            return
        served, config = self._composition.served, self._composition.files.config
        if description.most_rows is not None:
            least = min(served.limits.max_batch_size, description.most_rows)
            served.limits = replace(served.limits, max_batch_size=least)
        info = replace(information(description, config, self._remote.urls), sample=self._composition.files.sample())
        if served.state is not State.UNLOADING:
            self._replicas.attach(self._composition.opened(ReadyHead(description.signature, info), True))

    # Batches

    async def _answer(self, batch: Batch) -> Answered:
        if self.withheld:
            return {}, dict.fromkeys(range(len(batch.requests)), NotReady(self.withheld))
        self._budget.batch()
        return await self._run(batch.requests)

    async def _run(self, requests: Sequence[Request]) -> Answered:
        """Where a server says that its input is wrong, it is sent again in halves: only the wrong one fails."""
        try:
            return await self._ask(requests), {}
        except InvalidInput as error:
            if len(requests) == 1:
                return {}, {0: error}
        middle = (len(requests) + 1) // 2
        first, failures = await self._run(requests[:middle])
        second, others = await self._run(requests[middle:])
        both = [part for part in (first, second) if part]
        joined = {name: np.concatenate([part[name] for part in both]) for name in both[0]} if both else {}
        return joined, {**failures, **{middle + index: error for index, error in others.items()}}

    async def _ask(self, requests: Sequence[Request]) -> Columns:
        """The outputs of all their rows, one after the other. Raises what a server, or the lack of one, means here."""
        columns = stack(requests)
        rows = sum(request.rows for request in requests)
        deadline = max(request.deadline for request in requests)
        headers = (BACKGROUND,) if all(request.background for request in requests) else ()
        try:
            async with asyncio.timeout(max(0.0, deadline - self._clock())):
                return await self._try_servers(columns, rows, deadline, headers)
        except TimeoutError:
            raise TimedOut("the deadline passed before a server had answered; try again later") from None

    async def _try_servers(
        self, columns: Columns, rows: int, deadline: float, headers: Sequence[tuple[str, str]]
    ) -> Columns:
        tried: list[Server] = []
        deaths = 0
        while True:
            server = await self._balance.take(rows, tried)
            try:
                return await self._try(server, columns, rows, deadline, headers)
            except Failed as failed:
                tried.append(server)
                deaths += failed.died
                if not (failed.again and deaths < MAX_DEATHS and self._may_retry(tried, failed.error)):
                    raise failed.error from None
            self.retries += 1

    def _may_retry(self, tried: Sequence[Server], error: ForwardpassError) -> bool:
        """Whether there is a server for it, and the budget allows it. One without room is not asked again at once."""
        others = [server for server in self.servers if server.usable and server not in tried]
        same = [] if isinstance(error, Overloaded | NotReady) else [server for server in tried if server.usable]
        return len(tried) <= self._remote.retries and bool(others or same) and self._budget.take()

    async def _try(
        self, server: Server, columns: Columns, rows: int, deadline: float, headers: Sequence[tuple[str, str]]
    ) -> Columns:
        """One try at one server; its breaker hears how it ended. Raises ``Failed`` or ``InvalidInput``."""
        judge = server.breaker.abandoned
        try:
            outputs = await self._exchange(server, columns, rows, deadline, headers)
        except InvalidInput:
            judge = server.breaker.succeeded
            raise
        except asyncio.CancelledError:
            if self._clock() >= deadline:  # else nobody waits for it any more, or this ends
                server.failed += 1
            raise
        except Failed as failed:
            server.failed += 1
            if failed.blamed:
                judge = server.breaker.failed
                server.look.set()
            raise
        else:
            judge = server.breaker.succeeded
            return outputs
        finally:
            judge()
            self._balance.release(server, rows)

    async def _exchange(
        self, server: Server, columns: Columns, rows: int, deadline: float, headers: Sequence[tuple[str, str]]
    ) -> Columns:
        signature = self._composition.served.signature
        longest = self._remote.timeout
        kind, body = infer_body(
            columns, [spec.name for spec in signature.outputs], min(longest, deadline - self._clock())
        )
        try:
            async with asyncio.timeout(longest):
                answer = await server.pool.ask("POST", self._path, [*kind, *headers], body)
        except Broken as broken:
            raise self._broken(server, broken) from None
        except TimeoutError:
            text = f"a server of it has not answered within {longest:g} s; try again later"
            raise Failed(TimedOut(text), blamed=True) from None
        if answer.status != 200:
            raise _refused(answer)
        try:
            return columns_of(answer, signature.outputs, rows if signature.batched else None)
        except BackendFailed as error:
            raise Failed(BackendFailed(f"{server.url}: {error.message}"), blamed=True) from None

    def _broken(self, server: Server, broken: Broken) -> Failed:
        text = f"{server.url}: {broken.why}"
        if broken.sent:
            return Failed(BackendFailed(text), again=not broken.begun, died=True, blamed=True)
        server.healthy, server.reason = False, broken.why  # until it has been looked at again
        return Failed(NotReady(f"no server can answer: {text}"), again=True, died=broken.second, blamed=True)

    # What is told of it

    def statistics(self) -> dict[str, Any]:
        return {
            "kind": "remote",
            "retries": self.retries,
            "servers": [
                {
                    "url": server.url,
                    "healthy": server.healthy,
                    "reason": server.reason,
                    "breaker": str(server.breaker.state),
                    "outstanding_batches": server.batches,
                    "outstanding_rows": server.rows,
                    "sent": server.sent,
                    "failed": server.failed,
                    "last_contact": server.pool.last_contact,
                }
                for server in self.servers
            ],
        }

    def gauges(self, labels: Mapping[str, str]) -> Iterable[Gauge]:
        yield Gauge("remote_retries", "Batches that were tried again since load", dict(labels), self.retries)
        for server in self.servers:
            own = {**labels, "server": server.url}
            shut = server.breaker.state is not BreakerState.CLOSED
            yield Gauge("remote_healthy", "1 where the server says that it is ready", own, float(server.healthy))
            yield Gauge("remote_breaker_open", "1 while the server is left alone", own, float(shut))
            yield Gauge("remote_outstanding_batches", "Batches under way at the server", own, server.batches)
            yield Gauge("remote_outstanding_rows", "Rows under way at the server", own, server.rows)
            yield Gauge("remote_batches", "Batches sent to the server since load", own, server.sent)
            yield Gauge("remote_failures", "Of these, those that failed", own, server.failed)


def _refused(answer: Answer) -> ForwardpassError | Failed:
    """What to raise for an answer that is not good."""
    error = error_of(answer)
    if isinstance(error, InvalidInput):
        return error
    return Failed(error, again=is_safe(answer), blamed=isinstance(error, BackendFailed) or answer.status == 404)
