from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.edge.outbox.setting import Time, prediction, record

from forwardpass.edge.outbox import Kind, Level, Outbox, Privacy, outbox
from forwardpass.edge.outbox.privacy import MOST_BODY
from forwardpass.errors import InvalidInput, NotReady
from forwardpass.types import Outcome


@contextlib.asynccontextmanager
async def opened(path: Path, level: Level = Level.ALL, **others: Any) -> AsyncIterator[Outbox]:
    given = {"privacy": Privacy(level), "clock": Time().clock(), "linger": 0.0, **others}
    made = Outbox(path / "outbox.sqlite", **given)
    await made.open()
    try:
        yield made
    finally:
        await made.close()


async def settled(made: Outbox) -> None:
    """Until what was kept is on the disk."""
    made.added.clear()
    await asyncio.wait_for(made.added.wait(), 30.0)


def test_what_was_put_is_on_the_disk_when_put_returns(tmp_path: Path) -> None:
    """Read by another connection, at once."""
    import sqlite3

    async def main() -> None:
        async with opened(tmp_path, linger=0.01) as made:
            for number, kind in enumerate((Kind.USAGE, Kind.RECORD, Kind.SAMPLE, Kind.ESCALATION)):
                name = await made.put(kind, b'{"n": 1}')
                with contextlib.closing(sqlite3.connect(tmp_path / "outbox.sqlite")) as db:
                    found = db.execute("SELECT id, kind FROM entries ORDER BY number").fetchall()
                assert len(found) == number + 1
                assert found[-1] == (name, str(kind))

    asyncio.run(main())


def test_usage_does_not_wait_for_more(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, linger=3600.0) as made:
            record = asyncio.create_task(made.put(Kind.RECORD, b"{}"))
            await asyncio.sleep(0)
            await asyncio.wait_for(made.put(Kind.USAGE, b"{}"), 30.0)
            assert record.done()  # it shared the write

    asyncio.run(main())


def test_the_loop_goes_on_while_the_disk_is_slow(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as made:
            release = threading.Event()
            made._thread.submit(release.wait, 30.0)  # the disk does not answer
            putting = asyncio.create_task(made.put(Kind.USAGE, b"{}"))
            for number in range(100):
                made.keep(prediction(number))
                await asyncio.sleep(0)
            assert not putting.done()
            release.set()
            await asyncio.wait_for(putting, 30.0)

    asyncio.run(main())


def test_a_prediction_becomes_a_record_and_a_sample(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as made:
            made.keep(prediction(1, rows=3))
            made.keep(prediction(2, error="no", answers=[]))
            await settled(made)
            found = await made.next((Kind.RECORD, Kind.SAMPLE), 100, 10**6)
            assert [entry.kind for entry in found] == [Kind.RECORD, Kind.SAMPLE] * 2

    asyncio.run(main())


def test_an_item_that_failed_and_is_asked_about_again_later_is_told_twice(tmp_path: Path) -> None:
    """Each way it can end once."""

    async def main() -> None:
        async with opened(tmp_path, Level.OUTPUTS) as made:
            for error in ("no", "no", None, None):
                made.keep(prediction(id="file", stable=True, error=error))
            await settled(made)
            found = await made.next((Kind.RECORD,), 100, 10**6)
            assert [msgspec.json.decode(entry.body)["failed"] for entry in found] == [True, False]

    asyncio.run(main())


def test_usage_is_that_of_records_and_nothing_else(tmp_path: Path) -> None:
    """Also where a prediction is kept before the record of its request is made, as in an agent."""
    time = Time()

    async def main() -> None:
        async with opened(tmp_path, clock=time.clock()) as made:
            made.keep(prediction(1, rows=3))
            await settled(made)
            made.write([record(rows=3, compute=0.5), record(Outcome.TIMED_OUT, compute=0.0)])
            made.keep(prediction(2, rows=2))
            made.write([record(rows=2)])
            await settled(made)
            assert await made.next((Kind.USAGE,), 100, 10**6) == []  # not before the minute is over
            time.pass_by(60.0)
            (usage,) = await made.next((Kind.USAGE,), 100, 10**6)
            assert msgspec.json.decode(usage.body) == {
                "model": "motor", "version": "3", "requests": 3, "failed": 1, "rows": 6, "seconds": 0.75
            }  # fmt: skip

    asyncio.run(main())


@pytest.mark.parametrize("usage", [None, True])
def test_nothing_means_nothing_but_usage_where_it_is_allowed(tmp_path: Path, usage: bool | None) -> None:
    time = Time()

    async def main() -> None:
        async with opened(tmp_path, privacy=Privacy(Level.NOTHING, usage), clock=time.clock()) as made:
            made.keep(prediction(provisional=True))
            made.write([record()])
            with pytest.raises(InvalidInput, match="may not leave this device, whose privacy is 'nothing'"):
                await made.put(Kind.RECORD, b"{}")
            await asyncio.sleep(0.01)
        time.pass_by(60.0)
        async with opened(tmp_path, privacy=Privacy(Level.ALL), clock=time.clock()) as made:
            assert [entry.kind for entry in await made.next(tuple(Kind), 9, 999)] == [Kind.USAGE] * bool(usage)

    asyncio.run(main())


def test_what_cannot_be_kept_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with opened(tmp_path, linger=0.01) as made:
            made.keep(prediction(1, instances=["x" * MOST_BODY]))
            made.keep(prediction(2, answers=[{1, 2}]))
            monkeypatch.setattr(outbox, "MOST_WAITING", 1000)
            for number in range(10):
                made.keep(prediction(number))
            await settled(made)
            counts = await made.counts()
            lost = counts["lost"]
            kept = counts["waiting"]
            assert counts["counts"]["too_large_sample"] == 1
            assert lost["record"] + kept["record"] == 12
            assert lost["sample"] + kept["sample"] == 10
            assert counts["counts"]["lost_record"] == lost["record"] > 1

    asyncio.run(main())


class Fits:
    """A disk with room for so much: SQLite says the same as where the disk itself is full."""

    def __init__(self, made: Outbox) -> None:
        self._made = made

    async def set(self, more_pages: int | None) -> None:
        (pages,) = await self.do("PRAGMA page_count")
        await self.do(f"PRAGMA max_page_count={10**6 if more_pages is None else pages + more_pages}")

    async def do(self, pragma: str) -> Any:
        def work() -> Any:
            db = self._made._store._db
            assert db is not None
            return db.execute(pragma).fetchone()

        return await asyncio.get_running_loop().run_in_executor(self._made._thread, work)


def test_a_full_disk_stops_no_prediction_is_told_and_recovers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    time = Time()

    async def main() -> None:
        async with opened(tmp_path, clock=time.clock(), retry=0.01) as made:
            await made.put(Kind.RECORD, b"{}", id="before")
            disk = Fits(made)
            await disk.set(0)
            with caplog.at_level(logging.ERROR), pytest.raises(NotReady, match=r"the outbox cannot be used: .*full"):
                await made.put(Kind.RECORD, b'{"text": "%s"}' % (b"x" * 50_000))
            assert "predictions go on" in caplog.text
            for number in range(50):
                made.keep(prediction(number, instances=["x" * 2000]))
                made.write([record()])
            while not (await made.counts())["lost"]:
                await asyncio.sleep(0.005)
            assert (await made.next((Kind.RECORD,), 1, 1))[0].id == "before"
            await disk.set(None)
            await made.put(Kind.RECORD, b"{}", id="after")
            counts = await made.counts()
            assert counts["error"] == ""
            assert counts["lost"] == {"record": 50, "sample": 50}
            assert counts["counts"] == {"lost_record": 50, "lost_sample": 50}
            assert [entry.id for entry in await made.next((Kind.RECORD,), 9, 999)] == ["before", "after"]
            time.pass_by(60.0)
            (usage,) = await made.next((Kind.USAGE,), 9, 999)
            assert msgspec.json.decode(usage.body)["requests"] == 50  # held in memory meanwhile

    asyncio.run(main())


def test_a_disk_that_is_almost_full_is_told_until_entries_are_taken_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It can be read, takes the counts, and gives up what was uploaded."""

    async def main() -> None:
        async with opened(tmp_path, retry=0.01) as made:
            names = [await made.put(Kind.RECORD, b'{"text": "%s"}' % (b"x" * 3000)) for _ in range(3)]
            disk = Fits(made)
            await disk.set(4)
            for number in range(2):
                made.keep(prediction(number, instances=["x" * 100_000]))
            error = "database or disk is full; lost since: 2 records, 2 samples"
            while (await made.counts())["counts"].get("lost_record") != 2:  # which it has written
                await asyncio.sleep(0.005)
            await made.remove(names[:1])
            await made.replace(names[1], b"{}")
            await made.next(tuple(Kind), 10, 1000)
            assert (await made.counts())["error"] == error
            await disk.set(None)
            assert (await made.counts())["error"] == error
            with caplog.at_level(logging.WARNING):
                await made.put(Kind.RECORD, b"{}")
            assert (await made.counts())["error"] == ""
            assert "the outbox can be used again; lost meanwhile: 2 records, 2 samples" in caplog.text

    asyncio.run(main())


def test_a_disk_that_does_not_let_go_of_an_entry_is_told_until_it_does(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as made:
            name = await made.put(Kind.RECORD, b"{}")
            read_only = Fits(made)
            await read_only.do("PRAGMA query_only=1")
            with pytest.raises(NotReady, match="readonly"):
                await made.remove([name])
            for _ in range(2):
                assert "readonly" in (await made.counts())["error"]
            await read_only.do("PRAGMA query_only=0")
            assert (await made.counts())["error"]
            await made.remove([name])
            assert (await made.counts())["error"] == ""

    asyncio.run(main())


def test_what_nobody_foresaw_is_told_and_the_next_write_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with opened(tmp_path, retry=0.01) as made:
            append, failures = made._store.append, [MemoryError()]

            def once(*given: Any) -> None:
                if failures:
                    raise failures.pop()
                append(*given)

            monkeypatch.setattr(made._store, "append", once)
            made.keep(prediction())
            with pytest.raises(NotReady, match="the outbox cannot be used: MemoryError"):
                await asyncio.wait_for(made.put(Kind.RECORD, b"{}"), 30.0)
            assert (await made.counts())["error"] == "MemoryError; lost since: 1 records, 1 samples"
            await asyncio.wait_for(made.put(Kind.RECORD, b"{}"), 30.0)
            counts = await made.counts()
            assert (counts["error"], counts["waiting"]["record"]) == ("", 1)
            assert counts["counts"] == {"lost_record": 1, "lost_sample": 1}

    asyncio.run(main())
    assert "Traceback" in caplog.text


def test_what_waits_for_a_disk_that_stalls_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "MOST_WAITING", 1000)
    body = b'{"text": "%s"}' % (b"x" * 400)

    async def main() -> None:
        async with opened(tmp_path) as made:
            release = threading.Event()
            made._thread.submit(release.wait, 30.0)
            try:
                putting = [asyncio.create_task(made.put(Kind.ESCALATION, body)) for _ in range(5)]
                for task in putting[2:]:
                    with pytest.raises(NotReady, match="wait for the disk already"):
                        await asyncio.wait_for(task, 30.0)
            finally:
                release.set()
            await asyncio.gather(*putting[:2])
            await made.put(Kind.ESCALATION, body * 3)  # more than may wait, but nothing does
            assert (await made.counts())["waiting"]["escalation"] == 3

    asyncio.run(main())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 1 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small file system")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_is_really_full(small_disk: Path) -> None:
    async def main() -> None:
        async with opened(small_disk) as made:
            await made.put(Kind.RECORD, b"{}", id="before")
            (small_disk / "others").write_bytes(b"")
            with contextlib.suppress(OSError), (small_disk / "others").open("ab", buffering=0) as file:
                while file.write(b"x" * 4096):
                    pass
            with pytest.raises(NotReady, match="cannot be used"):
                await asyncio.gather(*(made.put(Kind.RECORD, b'{"text": "%s"}' % (b"x" * 8000)) for _ in range(200)))
            (small_disk / "others").unlink()
            await made.put(Kind.RECORD, b"{}", id="after")
            ids = [entry.id for entry in await made.next((Kind.RECORD,), 999, 10**9)]
            assert (ids[0], ids[-1]) == ("before", "after")

    asyncio.run(main())


def test_a_file_that_cannot_be_opened_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "outbox.sqlite").mkdir()  # nothing can be written there

    async def main() -> None:
        async with opened(tmp_path) as made:
            made.keep(prediction())
            with pytest.raises(NotReady, match="the outbox cannot be used"):
                await made.put(Kind.RECORD, b"{}")
            assert (await made.counts())["error"]
            (tmp_path / "outbox.sqlite").rmdir()
            await made.put(Kind.RECORD, b"{}", id="after")
            assert (await made.counts())["error"] == ""

    asyncio.run(main())


def test_a_damaged_file_loses_one_write_at_most(tmp_path: Path) -> None:
    (tmp_path / "outbox.sqlite").write_bytes(b"no database, by no means, but a text" * 300)

    async def main() -> None:
        async with opened(tmp_path) as made:
            await made.put(Kind.RECORD, b"{}", id="one")
            assert (await made.counts())["counts"] == {"damaged_files": 1}

    asyncio.run(main())
    assert (tmp_path / "outbox.sqlite.damaged").exists()


def test_what_waits_is_written_when_it_is_closed(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, linger=3600.0) as made:
            for number in range(5):
                made.keep(prediction(number))
        async with opened(tmp_path) as made:
            assert (await made.counts())["waiting"]["record"] == 5
        with pytest.raises(NotReady, match="closed"):
            await made.put(Kind.RECORD, b"{}")

    asyncio.run(main())


def test_a_caller_who_left_is_not_waited_for(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, linger=0.01) as made:
            gone = asyncio.create_task(made.put(Kind.RECORD, b"{}", id="gone"))
            await asyncio.sleep(0)
            gone.cancel()
            await made.put(Kind.RECORD, b"{}", id="here")
            assert [entry.id for entry in await made.next((Kind.RECORD,), 9, 99)] == ["gone", "here"]

    asyncio.run(main())
