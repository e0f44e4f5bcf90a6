from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import orjson
import pytest
from tests.edge.outbox.cloud import Cloud, link
from tests.edge.outbox.setting import START, Time, entry, prediction

from forwardpass.edge.client import Response, post
from forwardpass.edge.outbox import Kind, Level, Outbox, Privacy, Uploader, read_device_id, upload
from forwardpass.edge.outbox.upload import Post
from forwardpass.edge.prediction import Prediction
from forwardpass.errors import InvalidInput, InvalidSettings, NotReady

DAY = 86_400.0


@contextlib.asynccontextmanager
async def opened(path: Path, time: Time | None = None) -> AsyncIterator[Outbox]:
    outbox = Outbox(path / "outbox.sqlite", privacy=Privacy(Level.ALL), clock=(time or Time()).clock(), linger=0.0)
    await outbox.open()
    try:
        yield outbox
    finally:
        await outbox.close()


def body(number: int, size: int = 20) -> bytes:
    return orjson.dumps({"n": number, "text": "x" * size})


async def put(outbox: Outbox, numbers: range, kind: Kind = Kind.RECORD) -> list[str]:
    """Records with these numbers; their ids. Together, so that they share a write."""
    return list(await asyncio.gather(*(outbox.put(kind, body(number), id=f"entry-{number}") for number in numbers)))


class Answers:
    """Stands where the network is: gives what it was told to, then lets through."""

    def __init__(self, *answers: Response) -> None:
        self.answers = list(answers)
        self.sent: list[dict[str, str]] = []

    async def __call__(self, url: str, raw: bytes, headers: Mapping[str, str] | None = None) -> Response:
        self.sent.append(dict(headers or {}))
        return self.answers.pop(0) if self.answers else await post(url, raw, headers)


def test_ten_thousand_entries_of_a_week_offline_arrive_in_order_once(
    taking: Cloud, device: str, tmp_path: Path
) -> None:
    async def main() -> list[str]:
        time = Time()
        async with opened(tmp_path, time) as outbox:
            ids: list[str] = []
            for start in range(0, 10_000, 500):
                time.pass_by(7 * DAY / 20)
                ids += await put(outbox, range(start, start + 500))
            uploader = Uploader(outbox, taking.url, device)
            assert await uploader.drain() == 10_000
            assert await outbox.next(tuple(Kind), 10, 1000) == []
            assert (await outbox.counts())["counts"] == {"uploaded_record": 10_000}
            assert (await outbox.counts())["bytes"] == 0
            assert uploader.last_contact == time.wall
        return ids

    ids = asyncio.run(main())
    arrived = taking.entries(device)
    assert [item["id"] for item in arrived] == ids
    assert [item["body"]["n"] for item in arrived] == list(range(10_000))
    assert arrived[0]["at"] == START + 7 * DAY / 20  # as the device saw it
    ages = [item["arrived"] - item["happened"] for item in arrived]
    assert ages[0] == pytest.approx(19 * 7 * DAY / 20)
    assert ages[-1] == pytest.approx(0.0)


@pytest.mark.parametrize("uploaded", [False, True])
def test_an_item_that_is_asked_about_again_after_a_crash_is_counted_once(
    taking: Cloud, device: str, tmp_path: Path, uploaded: bool
) -> None:
    """A file whose answer was lost: other entries of it would have other ids. Of others, each is one."""

    async def life(file: Prediction, uploads: bool) -> None:
        async with opened(tmp_path) as outbox:
            for one in (file, prediction(id="client")):
                outbox.keep(one)
            await asyncio.wait_for(outbox.added.wait(), 30.0)
            if uploads:
                await Uploader(outbox, taking.url, device).drain()

    asyncio.run(life(prediction(id="file", stable=True), uploaded))
    asyncio.run(life(prediction(id="file", stable=True, seconds=0.5, version="4"), True))
    ids = [(entry["body"]["id"], entry["kind"]) for entry in taking.entries(device)]
    assert sorted(ids) == [("client", "record")] * 2 + [("client", "sample")] * 2 + [
        ("file", "record"), ("file", "sample")
    ]  # fmt: skip


@pytest.mark.parametrize("places", [40, pytest.param(10_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("way", ["up", "down"])
def test_a_link_cut_at_any_byte_loses_nothing_and_doubles_nothing(
    taking: Cloud, device: str, tmp_path: Path, way: str, places: int
) -> None:
    """At so many bytes of the request, or of the answer, or at all of them: cut there, then tried again."""

    async def main() -> list[str]:
        ids: list[str] = []
        async with opened(tmp_path) as outbox, link(taking.url) as wire:
            uploader = Uploader(outbox, wire.url, device, post=_hasty)
            ids += await put(outbox, range(2))
            await uploader.drain()
            length = wire.passed_up if way == "up" else wire.passed_down
            assert length > 100
            cuts = range(0, length, max(1, length // places))
            for number, cut in enumerate(cuts):
                ids += await put(outbox, range(2 * number + 2, 2 * number + 4))
                setattr(wire, f"cut_{way}", cut)
                with pytest.raises(NotReady, match="cannot be reached"):
                    await uploader.drain()
                assert len(await outbox.next(tuple(Kind), 10, 1000)) == 2
                wire.cut_up = wire.cut_down = None
                assert await uploader.drain() == 2
        return ids

    ids = asyncio.run(main())
    assert len(ids) > 80
    assert taking.ids(device) == ids


async def _hasty(url: str, raw: bytes, headers: Mapping[str, str] | None = None) -> Response:
    return await post(url, raw, headers, timeout=30.0)


def test_an_answer_that_was_lost_is_no_second_effect(taking: Cloud, device: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as outbox:
            await put(outbox, range(3))
            answers = Answers()

            async def lost(url: str, raw: bytes, headers: Mapping[str, str] | None = None) -> Response:
                await answers(url, raw, headers)
                raise NotReady("the answer was lost")

            with pytest.raises(NotReady):
                await Uploader(outbox, taking.url, device, post=lost).drain()
            assert len(taking.ids(device)) == 3
            assert await Uploader(outbox, taking.url, device, post=answers).drain() == 3
            keys = [sent["idempotency-key"] for sent in answers.sent]
            assert keys[0] == keys[1]

    asyncio.run(main())
    assert taking.ids(device) == ["entry-0", "entry-1", "entry-2"]


def test_what_the_server_refuses_is_found_and_set_aside(taking: Cloud, device: str, tmp_path: Path) -> None:
    """One whose id the server cannot read spoils the upload; one with a body it does not take is named."""

    async def main() -> list[tuple[str, str]]:
        async with opened(tmp_path) as outbox:
            await put(outbox, range(10))
            await outbox.put(Kind.RECORD, body(10), id="no name at all")
            await put(outbox, range(11, 20))
            await outbox.put(Kind.RECORD, b"[1, 2]", id="no-object")
            await put(outbox, range(20, 25))
            assert await Uploader(outbox, taking.url, device).drain() == 24
            counts = await outbox.counts()
            assert (counts["set_aside"], counts["waiting"]["record"]) == (2, 0)
            return await outbox.reasons()

    (unnamed, listed) = asyncio.run(main())
    assert unnamed[0] == "no name at all"
    assert "is not 1 to 128 letters" in unnamed[1]
    assert listed == ("no-object", "its body is no JSON object")
    assert taking.ids(device) == [f"entry-{number}" for number in range(25) if number != 10]


def test_a_refusal_of_someone_else_sets_nothing_aside(taking: Cloud, device: str, tmp_path: Path) -> None:
    """A proxy's page says nothing of the entries; neither does a server that has no intake, or wants a name."""
    page = Response(400, {}, b"<html>The plain HTTP request was sent to HTTPS port</html>")
    none = Response(404, {}, b'{"error": "this server takes nothing in from devices"}')

    async def main() -> None:
        async with opened(tmp_path) as outbox:
            await put(outbox, range(2))
            for answer in (page, none, Response(401, {}, b""), Response(500, {}, b"{}"), Response(200, {}, b"<html>")):
                with pytest.raises(NotReady):
                    await Uploader(outbox, taking.url, device, post=Answers(answer)).drain()
            with pytest.raises(NotReady, match="named none of the 2 entries"):
                await Uploader(outbox, taking.url, device, post=Answers(Response(200, {}, b'{"accepted": []}'))).drain()
            assert (await outbox.counts())["set_aside"] == 0
            assert await Uploader(outbox, taking.url, device).drain() == 2

    asyncio.run(main())


def test_a_server_that_takes_no_upload_at_all_sets_nothing_aside(taking: Cloud, device: str, tmp_path: Path) -> None:
    """Say, because a proxy takes a header away."""

    async def stripped(url: str, raw: bytes, headers: Mapping[str, str]) -> Response:
        return await post(url, raw, {name: value for name, value in headers.items() if name != "content-type"})

    async def main() -> None:
        async with opened(tmp_path) as outbox:
            await put(outbox, range(3))
            with pytest.raises(NotReady, match="takes no upload at all: send the entries as JSON"):
                await Uploader(outbox, taking.url, device, post=stripped).drain()
            assert await Uploader(outbox, taking.url, device).drain() == 3

    asyncio.run(main())


def test_an_upload_that_is_too_large_for_a_proxy_is_halved(taking: Cloud, device: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as outbox:
            await put(outbox, range(4))
            large = Response(413, {}, b"<html>too large</html>")
            answers = Answers(large, large)
            assert await Uploader(outbox, taking.url, device, post=answers).drain() == 4
            assert len(answers.sent) == 5  # four, two, one, one, two

    asyncio.run(main())
    assert taking.ids(device) == [f"entry-{number}" for number in range(4)]


def test_it_waits_longer_each_time_and_as_long_as_it_is_told(taking: Cloud, device: str, tmp_path: Path) -> None:
    busy = Response(503, {}, b"")
    told = Response(503, {"retry-after": "120"}, b"")
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 6:
            raise asyncio.CancelledError

    async def main() -> Uploader:
        async with opened(tmp_path) as outbox:
            await put(outbox, range(1))
            answers = Answers(busy, busy, busy, told, busy)
            uploader = Uploader(
                outbox, taking.url, device, headers=lambda: {"authorization": "Bearer x"}, every=30.0, post=answers,
                sleep=sleep, draw=lambda: 1.0,
            )  # fmt: skip
            with pytest.raises(asyncio.CancelledError):
                await uploader.run()
            assert all(sent["authorization"] == "Bearer x" for sent in answers.sent)
            assert await outbox.next(tuple(Kind), 1, 1) == []
        return uploader

    uploader = asyncio.run(main())
    assert waits == [1.0, 2.0, 4.0, 120.0, 16.0, 30.0]
    assert uploader.error == ""


def test_waits_differ_between_devices() -> None:
    uploader = Uploader.__new__(Uploader)
    for draw, expected in ((0.0, 0.5), (1.0, 1.0)):
        uploader._draw = lambda draw=draw: draw  # type: ignore[misc]
        assert uploader._wait(1) == expected
        assert uploader._wait(1000) == expected * upload.MOST_WAIT


def test_escalations_are_not_uploaded(taking: Cloud, device: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as outbox:
            await put(outbox, range(1), Kind.ESCALATION)
            await put(outbox, range(1, 2), Kind.SAMPLE)
            assert await Uploader(outbox, taking.url, device).drain() == 1
            assert [item.kind for item in await outbox.next(tuple(Kind), 9, 999)] == [Kind.ESCALATION]

    asyncio.run(main())
    assert taking.ids(device) == ["entry-1"]


def test_uploads_are_compressed_and_say_when_it_is(tmp_path: Path) -> None:
    import gzip

    seen: list[bytes] = []

    async def look(url: str, raw: bytes, headers: Mapping[str, str] | None = None) -> Response:
        seen.append(raw)
        assert headers is not None
        assert headers["content-encoding"] == "gzip"
        return Response(200, {}, b'{"accepted": ["entry-0"]}')

    async def main() -> None:
        async with opened(tmp_path, Time(wall=12.0, up=3.0)) as outbox:
            await put(outbox, range(1))
            await Uploader(outbox, "http://cloud.example/base/", "device-9", post=look).drain()

    asyncio.run(main())
    sent = orjson.loads(gzip.decompress(seen[0]))
    facts = {"id": "entry-0", "kind": "record", "at": 12.0, "up": 3.0, "boot": "boot-1", "body": orjson.loads(body(0))}
    assert sent == {"device": "device-9", "at": 12.0, "up": 3.0, "boot": "boot-1", "entries": [facts]}


def test_a_url_that_cannot_be_asked_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no URL"):
        Uploader(Outbox(tmp_path / "outbox.sqlite"), "cloud.example", "device-1")


def test_the_name_of_a_device_is_drawn_once(tmp_path: Path) -> None:
    file = tmp_path / "home" / "device"
    found = read_device_id(file)
    assert found.startswith("device-")
    assert read_device_id(file) == found
    assert read_device_id(tmp_path / "another") != found
    file.write_text("pump 7/b\n")
    with pytest.raises(InvalidSettings, match="1 to 64 letters"):
        read_device_id(file)


def test_an_entry_has_the_size_it_says() -> None:
    assert len(entry(size=77).body) == 77


def test_it_tries_at_once_when_the_server_was_reached_elsewhere_but_not_before_it_was_told(
    taking: Cloud, device: str, tmp_path: Path
) -> None:
    told, waits = Response(503, {"retry-after": "120"}, b""), list[float]()

    async def away(url: str, raw: bytes, headers: Mapping[str, str]) -> Response:
        if not answers:
            raise NotReady("away")
        return await answers.pop(0)(url, raw, headers)

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        await asyncio.sleep(1000.0)

    async def main() -> None:
        async with opened(tmp_path) as outbox:
            await put(outbox, range(1))
            uploader = Uploader(outbox, taking.url, device, post=away, sleep=sleep, draw=lambda: 1.0)
            task = asyncio.create_task(uploader.run())
            async with asyncio.timeout(30.0):
                while len(waits) < 1:
                    await asyncio.sleep(0.001)
                assert uploader.error == "away"
                answers.append(Answers(told))
                uploader.contact()
                while len(waits) < 2:
                    await asyncio.sleep(0.001)
                answers.append(post)
                uploader.contact()
                for _ in range(20):
                    await asyncio.sleep(0)
            task.cancel()
            assert waits == [1.0, 120.0]

    answers: list[Post] = []
    asyncio.run(main())
