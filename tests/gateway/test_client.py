"""A remote model asked without a server of one's own: rows, refusals, and servers that come and go."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.gateway.house import OUTPUTS, Cloud, after, answers, remote_yaml, rows, said, saying, well

from forwardpass.errors import BackendFailed, InvalidInput, InvalidModel, NotReady, Overloaded
from forwardpass.gateway.client import AT_ONCE, RemoteClient
from forwardpass.registry import find_model
from forwardpass.types import Columns


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    """In a thread of its own, since the client waits in this one."""
    loop, made = asyncio.new_event_loop(), Cloud()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(made.start(), loop).result(20.0)
    try:
        yield made
    finally:
        asyncio.run_coroutine_threadsafe(made.die(), loop).result(20.0)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20.0)
        loop.close()


@contextlib.contextmanager
def client(folder: Path, cloud: Cloud, more: str = "") -> Iterator[RemoteClient]:
    """``more`` are further lines of ``model.yaml``."""
    (folder / "large").mkdir()
    (folder / "large" / "model.yaml").write_text(remote_yaml([cloud]) + more, encoding="utf-8")
    with contextlib.closing(RemoteClient(find_model(folder / "large"))) as made:
        yield made


def test_all_rows_are_answered_in_their_order(tmp_path: Path, cloud: Cloud) -> None:
    with client(tmp_path, cloud) as made:
        assert made.signature.outputs == OUTPUTS
        some = rows(*np.linspace(0, 1, AT_ONCE + 50))
        outputs, failures = made.answer(some)
        assert failures == {}
        for name, wanted in answers(2)(some).items():
            assert np.array_equal(outputs[name], wanted)
        assert len(cloud.seen) < AT_ONCE, "they share batches"


def test_rows_that_are_refused_are_named_and_the_others_answered(tmp_path: Path, cloud: Cloud) -> None:
    async def refusing(cloud: Cloud, columns: Columns) -> bytes | None:
        return said(400, {"error": "below 0"}) if (columns["x"] < 0).any() else await well(cloud, columns)

    with client(tmp_path, cloud) as made:
        cloud.doing = refusing
        outputs, failures = made.answer(rows(0.5, -1.0, 0.25, -2.0))
        assert outputs["who"].tolist() == [2, 22]
        assert {place: type(error) for place, error in failures.items()} == {1: InvalidInput, 3: InvalidInput}
        outputs, failures = made.answer(rows(-1.0))
        assert (outputs, list(failures)) == ({}, [0])


def test_rows_need_not_all_be_answered_in_the_time_of_one(tmp_path: Path, cloud: Cloud) -> None:
    one_at_a_time = asyncio.Lock()

    async def slow(cloud: Cloud, columns: Columns) -> bytes | None:
        async with one_at_a_time:
            await asyncio.sleep(0.02 * len(columns["x"]))
        return await well(cloud, columns)

    with client(tmp_path, cloud, "limits: {timeout: 0.3}\n") as made:
        cloud.doing = slow
        outputs, failures = made.answer(rows(*[0.5] * 30))
        assert (len(outputs["who"]), failures) == (30, {})


@pytest.mark.parametrize(("status", "kind"), [(500, BackendFailed), (503, Overloaded)])
def test_what_says_nothing_of_a_row_is_raised(tmp_path: Path, cloud: Cloud, status: int, kind: type[Exception]) -> None:
    with client(tmp_path, cloud) as made:
        cloud.doing = saying(status, headers=b"retry-after: 1\r\n")
        with pytest.raises(kind, match="so it says"):
            made.answer(rows(0.5, 0.25))
        cloud.doing = after(0.01)
        assert made.answer(rows(0.5))[0]["who"].tolist() == [2]


def test_where_nobody_can_be_asked(tmp_path: Path) -> None:
    away = Cloud()
    away._port = 9
    before = threading.active_count()
    with (
        pytest.raises(NotReady, match=r"'large' lies elsewhere and cannot be asked: http://127.0.0.1:9: no connection"),
        client(tmp_path, away),
    ):
        pass
    for urls, match in (("[]", "names no server"), ("[http://a..b]", r"'http://a\.\.b' is no URL")):
        (tmp_path / "large" / "model.yaml").write_text(f"remote: {{urls: {urls}}}\n", encoding="utf-8")
        with pytest.raises(InvalidModel, match=match):
            RemoteClient(find_model(tmp_path / "large"))
    assert threading.active_count() == before
