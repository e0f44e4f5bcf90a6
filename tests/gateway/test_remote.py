"""A model that lies elsewhere: its batches over real HTTP, and all that can go wrong with the servers that have it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import numpy as np
import pytest
from tests.gateway.house import (
    OUTPUTS,
    Cloud,
    after,
    answers,
    closing,
    clouds,
    house,
    remote_yaml,
    rows,
    run,
    said,
    saying,
    until,
    well,
)

from forwardpass.errors import (
    BackendFailed,
    ForwardpassError,
    InvalidInput,
    InvalidModel,
    NotReady,
    Overloaded,
    QuotaExceeded,
    TimedOut,
    TooLarge,
)
from forwardpass.gateway.breaker import IN_A_ROW
from forwardpass.server.served import State
from forwardpass.types import Columns


def same(got: Columns, wanted: Columns) -> bool:
    return got.keys() == wanted.keys() and all(np.array_equal(got[name], wanted[name]) for name in wanted)


def test_rows_go_there_and_their_answers_come_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with clouds() as (cloud,), house(tmp_path) as made:
            served = await made.load("large", remote_yaml([cloud]))
            assert served.signature.outputs == OUTPUTS
            some = rows(0.25, 0.5, 0.75)
            assert same(await made.answer("large", some), answers(2)(some))
            head = cloud.heads[0]
            assert 19e6 < head["parameters"]["timeout"] <= 20e6 or head["parameters"]["timeout"] == 10e6
            assert b"x-priority" not in cloud.headers[0]

    run(main)


def test_requests_share_batches_and_get_their_own_rows(tmp_path: Path) -> None:
    async def main() -> None:
        async with clouds() as (cloud,), house(tmp_path) as made:
            await made.load("large", remote_yaml([cloud], "concurrency: 2"))
            cloud.doing = after(0.02)
            asked = [rows(*[index / 100] * (1 + index % 3), first=10 * index) for index in range(60)]
            got = await asyncio.gather(*(made.ask("large", some).future for some in asked))
            assert all(same(one, answers(2)(some)) for one, some in zip(got, asked, strict=True))
            assert len(cloud.seen) < 20
            assert cloud.most_under_way == 2

    run(main)


def test_deadlines_and_priority_are_passed_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with clouds() as (cloud,), house(tmp_path) as made:
            await made.load("large", remote_yaml([cloud], "timeout: 4"))
            await made.answer("large", rows(0.5), timeout=2.0)
            await made.answer("large", rows(0.5), timeout=20.0)
            await made.ask("large", rows(0.5), background=True).future
            told = [head["parameters"]["timeout"] for head in cloud.heads]
            assert 1e6 < told[0] <= 2e6
            assert told[1] == 4e6
            assert [b"x-priority: background" in head for head in cloud.headers] == [False, False, True]

    run(main)


def test_it_waits_for_a_server_and_says_why_and_never_forgets_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with clouds() as (cloud,), house(tmp_path) as made:
            await cloud.die()
            with pytest.raises(InvalidModel, match=r"cannot be loaded: http://127.*no connection: .*refused"):
                await made.load("large", remote_yaml([cloud]))
            with pytest.raises(NotReady, match=r"not ready: http://.*refused"):
                made.ask("large", rows(0.5))
            await cloud.start()
            await until(lambda: made.dataplane.model("large").ready)
            await made.answer("large", rows(0.5))
            await cloud.die()
            remote = made.remote("large")
            await until(lambda: not made.dataplane.model("large").ready)
            with pytest.raises(NotReady, match=r"not ready: http://.*refused"):
                await made.answer("large", rows(0.5))
            assert made.dataplane.model("large").signature.outputs == OUTPUTS
            assert made.remote("large") is remote
            await cloud.start()
            await until(lambda: made.dataplane.model("large").ready)
            await made.answer("large", rows(0.5))

    run(main)


@pytest.mark.parametrize(
    ("doing", "kind", "match"),
    [
        (saying(400), InvalidInput, "^so it says$"),
        (saying(413), TooLarge, "^so it says$"),
        (saying(429, headers=b"retry-after: 9\r\n"), QuotaExceeded, "^so it says$"),
        (saying(503, headers=b"retry-after: 9\r\n"), Overloaded, "^so it says$"),
        (saying(503), NotReady, "^so it says$"),
        (saying(504), TimedOut, "^so it says$"),
        (saying(500), BackendFailed, "so it says"),
        (saying(200, b"<html>"), BackendFailed, "http://127.*no answer to an inference request"),
        (saying(200, {"outputs": []}), BackendFailed, "output 'p' is missing"),
        (after(30.0), TimedOut, "not answered within 0.3 s"),
    ],
)
def test_errors_come_back_as_what_they_are_and_are_not_tried_again(
    tmp_path: Path, doing: object, kind: type[ForwardpassError], match: str
) -> None:
    async def main() -> None:
        async with clouds() as (cloud,), house(tmp_path) as made:
            seconds = 0.3 if "not answered" in match else 9
            await made.load("large", remote_yaml([cloud], f"retries: 3, timeout: {seconds}"))
            cloud.doing = doing  # type: ignore[assignment]
            with pytest.raises(kind, match=match) as raised:
                await made.answer("large", rows(0.5))
            assert type(raised.value) is kind
            assert len(cloud.seen) == 1
            cloud.doing = well
            await made.answer("large", rows(0.5))

    run(main)


def test_a_bad_row_fails_its_own_request_alone(tmp_path: Path) -> None:
    async def refusing(cloud: Cloud, columns: Columns) -> bytes | None:
        bad = np.flatnonzero(columns["x"] < 0)
        return said(400, {"error": f"row {bad[0]}: below 0"}) if len(bad) else await well(cloud, columns)

    async def main() -> None:
        async with clouds() as (cloud,), house(tmp_path) as made:
            await made.load("large", remote_yaml([cloud], "concurrency: 1"))
            cloud.doing = refusing
            asked = [rows(0.5, -1.0 if index in (3, 11) else 0.25, first=2 * index) for index in range(16)]
            first = made.ask("large", rows(0.1))  # the others gather behind it
            got = await asyncio.gather(*(made.ask("large", some).future for some in asked), return_exceptions=True)
            await first.future
            for index, (one, some) in enumerate(zip(got, asked, strict=True)):
                if index in (3, 11):
                    assert isinstance(one, InvalidInput)
                    assert one.message == "row 1: below 0"
                else:
                    assert isinstance(one, dict)
                    assert same(one, answers(2)(some))

    run(main)


@pytest.mark.parametrize("doing", [closing, saying(503, headers=b"retry-after: 1\r\n"), saying(404)])
def test_what_was_not_answered_is_tried_at_another_server(tmp_path: Path, doing: object) -> None:
    async def main() -> None:
        async with clouds(2) as (bad, good), house(tmp_path) as made:
            await made.load("large", remote_yaml([bad, good], "retry_share: 1"))
            remote = made.remote("large")
            await until(lambda: all(server.healthy for server in remote.servers))
            bad.doing = doing  # type: ignore[assignment]
            for _ in range(20):
                some = rows(0.5)
                assert same(await made.answer("large", some), answers(2)(some))
            assert bad.seen  # by chance in one of 2 ** 20 runs not; the chance has a seed
            if doing is closing:  # each try is sent once more, where the connection was a kept one
                assert remote.retries <= len(bad.seen) <= 2 * remote.retries
            else:
                assert remote.retries == len(bad.seen)

    run(main)


def test_a_kept_connection_that_its_server_closed_costs_no_try(tmp_path: Path) -> None:
    async def once(cloud: Cloud, columns: Columns) -> bytes | None:
        cloud.doing = well
        return None

    async def main() -> None:
        async with clouds() as (cloud,), house(tmp_path) as made:
            await made.load("large", remote_yaml([cloud], "retries: 0, retry_share: 0"))
            await made.answer("large", rows(0.5))
            for count in range(3):
                cloud.doing = once
                assert same(await made.answer("large", rows(0.5)), answers(2)(rows(0.5)))
                assert len(cloud.seen) == 3 + 2 * count
            server = made.remote("large").servers[0]
            assert (made.remote("large").retries, server.failed) == (0, 0)

    run(main)


def test_a_batch_that_took_two_servers_down_is_not_given_to_a_third(tmp_path: Path) -> None:
    async def main() -> None:
        async with clouds(4) as made_clouds, house(tmp_path) as made:
            await made.load("large", remote_yaml(made_clouds, "retries: 9, retry_share: 1"))
            remote = made.remote("large")
            await until(lambda: all(server.healthy for server in remote.servers))
            for cloud in made_clouds:
                cloud.doing = closing
            with pytest.raises(BackendFailed, match="closed before an answer"):
                await made.answer("large", rows(0.5))
            assert sum(bool(cloud.seen) for cloud in made_clouds) == 2

    run(main)


def test_tries_again_stay_within_their_share(tmp_path: Path) -> None:
    async def main() -> None:
        async with clouds(2) as (one, other), house(tmp_path) as made:
            await made.load("large", remote_yaml([one, other], "retry_share: 0.05"))
            remote = made.remote("large")
            await until(lambda: all(server.healthy for server in remote.servers))
            for cloud in (one, other):
                cloud.doing = saying(503, headers=b"retry-after: 1\r\n")
            for _ in range(40):
                with pytest.raises(Overloaded):
                    await made.answer("large", rows(0.5))
            assert 5 <= remote.retries <= 5 + 40 * 0.05

    run(main)


def test_a_server_that_dies_costs_no_answer(tmp_path: Path) -> None:
    async def main() -> None:
        async with clouds(2) as (one, other), house(tmp_path) as made:
            await made.load("large", remote_yaml([one, other], "retry_share: 1, concurrency: 2"))
            remote = made.remote("large")
            await until(lambda: all(server.healthy for server in remote.servers))
            one.doing = other.doing = after(0.01)
            asked = [made.ask("large", rows(0.5, first=index)) for index in range(200)]
            await until(lambda: one.under_way > 0)
            await one.die()
            got = await asyncio.gather(*(request.future for request in asked))
            assert [int(one["who"][0]) for one in got] == [10 * index + 2 for index in range(200)]
            assert not remote.servers[0].healthy
            await one.start()
            await until(lambda: remote.servers[0].usable)

    run(main)


def test_a_server_that_fails_again_and_again_is_left_alone_until_it_is_well(tmp_path: Path) -> None:
    async def main() -> None:
        async with clouds(2) as (bad, good), house(tmp_path) as made:
            await made.load("large", remote_yaml([bad, good]))
            remote = made.remote("large")
            await until(lambda: all(server.healthy for server in remote.servers))
            bad.doing = saying(500)
            failures = 0
            for _ in range(100):
                try:
                    await made.answer("large", rows(0.5))
                except BackendFailed:
                    failures += 1
            assert failures == IN_A_ROW
            assert remote.statistics()["servers"][0]["breaker"] in ("open", "half_open")
            bad.doing = well
            async with asyncio.timeout(20):
                while len(bad.seen) == failures:  # the breaker's rest is over by the clock of the server
                    await made.answer("large", rows(0.5))
                    await asyncio.sleep(0.02)
            assert remote.statistics()["servers"][0]["breaker"] == "closed"

    run(main)


def test_a_server_that_says_it_is_not_ready_gets_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with clouds(2) as (resting, good), house(tmp_path) as made:
            resting.ready = False
            await made.load("large", remote_yaml([resting, good]))
            remote = made.remote("large")
            await until(lambda: remote.servers[1].healthy)
            for _ in range(20):
                await made.answer("large", rows(0.5))
            assert not resting.seen
            assert remote.servers[0].reason == "it is not ready: it rests"
            resting.ready = True
            await until(lambda: remote.servers[0].healthy)

    run(main)


def test_a_server_whose_model_is_another_gets_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with clouds(2) as (one, other), house(tmp_path) as made:
            await other.die()
            await made.load("large", remote_yaml([one, other]))
            other.outputs = OUTPUTS[:1]
            await other.start()
            remote = made.remote("large")
            await until(lambda: "takes or gives other tensors" in remote.servers[1].reason)
            for _ in range(10):
                await made.answer("large", rows(0.5))
            assert not other.seen

    run(main)


def test_nobody_waits_longer_than_the_deadline_and_the_server_hears_that_nobody_waits(tmp_path: Path) -> None:
    async def main() -> None:
        async with clouds() as (cloud,), house(tmp_path) as made:
            before = time.time()
            served = await made.load("large", remote_yaml([cloud], "timeout: 90"))
            assert before <= made.remote("large").statistics()["servers"][0]["last_contact"] <= time.time()
            cloud.doing = after(90.0)
            with pytest.raises(TimedOut):
                await made.answer("large", rows(0.5), timeout=0.1)
            await until(lambda: cloud.given_up == 1)
            request = made.ask("large", rows(0.5), timeout=90.0)
            await until(lambda: len(cloud.seen) == 2)
            assert served.scheduler is not None
            request.fail = lambda error: None  # type: ignore[method-assign]
            served.scheduler.cancel(request)
            await until(lambda: cloud.given_up == 2)
            assert made.remote("large").servers[0].batches == 0
            server = made.remote("large").statistics()["servers"][0]
            assert (server["breaker"], server["sent"], server["failed"]) == ("closed", 2, 1)

    run(main)


def test_unloading_ends_it_and_loading_again_changes_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with clouds(2) as (one, other), house(tmp_path) as made:
            await made.load("large", remote_yaml([one]))
            await made.answer("large", rows(0.5))
            one.doing = after(0.05)
            under_way = made.ask("large", rows(0.5))
            await made.load("large", remote_yaml([other]))
            await under_way.future
            await made.answer("large", rows(0.5))
            assert (len(one.seen), len(other.seen)) == (2, 1)
            await made.control.unload("large")
            assert made.dataplane.all() == []

    run(main)


def test_a_reload_that_finds_no_server_leaves_the_old_one(tmp_path: Path) -> None:
    async def main() -> None:
        async with clouds(2) as (one, other), house(tmp_path) as made:
            await made.load("large", remote_yaml([one]))
            await other.die()
            with pytest.raises(InvalidModel, match="refused"):
                await made.load("large", remote_yaml([other]))
            await made.answer("large", rows(0.5))
            assert len(one.seen) == 1

    run(main)


def test_a_version_can_be_tried_before_it_answers(tmp_path: Path) -> None:
    async def main() -> None:
        async with clouds(2) as (one, other), house(tmp_path) as made:
            old = await made.load("large", remote_yaml([one]))
            made.write("large", remote_yaml([other]))
            tried = await made.control.try_out(made.control.locations()[0])
            assert made.dataplane.model("large") is old
            await made.control.adopt(tried)
            await made.answer("large", rows(0.5))
            assert (len(one.seen), len(other.seen)) == (0, 1)
            assert old.state is State.UNAVAILABLE

    run(main)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("remote: {urls: []}", "names no server"),
        ("remote: {urls: [http://a, http://A:80/]}", "names a server twice"),
        ("remote: {urls: ['a:1']}", "remote: 'a.*' is no URL"),
        ("remote: {urls: [http://a, http://a..b]}", r"remote: 'http://a\.\.b' is no URL"),
        ("remote: {urls: ['http://a/b?c']}", "goes on after its path"),
        ("remote: {urls: [http://a], concurrency: 0}", "`concurrency` must be above 0"),
        ("remote: {urls: [http://a], retry_share: 2}", "`retry_share` between 0 and 1"),
        ("remote: {urls: [http://a], token_env: A, token_file: /b}", "either `token_env` or `token_file`"),
        ("remote: {urls: [http://a], token_file: b}", "`token_file` must be an absolute path, got 'b'"),
        ("remote: {urls: [http://a]}\nartifact: model.onnx", "`artifact` means nothing for a remote model"),
        ("remote: {urls: [http://a]}\npreprocess: [{step: x}]", "`preprocess` means nothing"),
        ("remote: {urls: [http://a]}\ncascade: [a, b]", "either a `cascade` or `remote`"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, text: str, match: str) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            with pytest.raises(InvalidModel, match=match):
                await made.load("large", text)

    run(main)
