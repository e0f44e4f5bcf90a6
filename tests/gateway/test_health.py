"""Looks at servers: none of them ends for good, whatever goes wrong in one."""

from __future__ import annotations

import asyncio
import time

import pytest
from tests.gateway.house import clouds, run, until

from forwardpass.config import ModelConfig, RemoteConfig
from forwardpass.credentials import Token
from forwardpass.gateway.balance import Server
from forwardpass.gateway.health import Health


def test_a_mistake_of_ours_is_a_reason_and_the_watch_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    reasons: list[str] = []

    async def main() -> None:
        async with clouds() as (cloud,):
            server = Server.at(cloud.url, time.monotonic)

            def changed() -> None:
                reasons.append(server.reason)
                if len(reasons) == 1:
                    raise RuntimeError("a bug")

            remote = RemoteConfig((cloud.url,), check_every=0.2)
            watcher = asyncio.ensure_future(Health("large", ModelConfig(), remote, Token(), changed).watch(server))
            await until(lambda: len(reasons) > 2)
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)
            server.pool.close()

    run(main)
    assert reasons[1:3] == ["it could not be looked at (RuntimeError); the log says why", ""]
    assert "a bug" in caplog.text
