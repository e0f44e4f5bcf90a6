"""What an agent says of an outbox that lost something, and of itself where saying it fails; quick, in this process."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from tests.edge.outbox.setting import Time, prediction, record
from tests.edge.outbox.test_outbox import Fits, opened, settled

from forwardpass.edge import endpoints
from forwardpass.edge.endpoints import Endpoints
from forwardpass.edge.outbox.entry import Kind
from forwardpass.edge.rates import GOLDEN
from forwardpass.errors import NotReady


def test_an_outbox_on_a_full_disk_says_so_once_until_it_was_written_to(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with opened(tmp_path, retry=0.01) as made:
            disk = Fits(made)
            await disk.set(0)
            with caplog.at_level(logging.ERROR):
                for _ in range(3):
                    with pytest.raises(NotReady, match="full"):
                        await made.put(Kind.RECORD, b'{"text": "%s"}' % (b"x" * 50_000))
                    await made.next(tuple(Kind), 10, 1000)  # it can be read
                    assert "full" in (await made.counts())["error"]
            assert len(caplog.records) == 1
            await disk.set(None)
            await made.put(Kind.RECORD, b"{}")
            assert (await made.counts())["error"] == ""

    asyncio.run(main())


def test_what_was_lost_is_part_of_the_status(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, retry=0.01) as made:
            await Fits(made).set(0)
            made.keep(prediction(1, instances=["x" * 50_000]))
            while not (await made.counts())["lost"]:
                await asyncio.sleep(0.005)
            assert json.loads(endpoints.json(await made.counts()).body)["lost"] == {"record": 1, "sample": 1}

    asyncio.run(main())


def test_golden_rows_are_nobodys_usage(tmp_path: Path) -> None:
    time = Time()

    async def main() -> None:
        async with opened(tmp_path, clock=time.clock()) as made:
            made.write([record(door=GOLDEN), record(), record(door=GOLDEN)])
            await settled(made)
            time.pass_by(60.0)
            (usage,) = await made.next((Kind.USAGE,), 100, 10**6)
            assert json.loads(usage.body)["requests"] == 1

    asyncio.run(main())


def test_what_the_agent_cannot_say_is_an_error_and_no_closed_connection(caplog: pytest.LogCaptureFixture) -> None:
    async def wrong() -> dict[Any, Any]:
        return {1: "no JSON"}

    nothing = cast(Callable[..., Any], None)
    asked = Endpoints(cast(Any, None), nothing, wrong, nothing, {})
    answer = asyncio.run(asked.answer("GET", "/status", b""))
    assert answer.status == 500
    assert "its log says why" in json.loads(answer.body)["error"]
    assert "no answer to GET /status" in caplog.text
