"""The watched folder: which files are complete, where they go, and what a restart does."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.edge.inputs.echo import Echo
from tests.edge.mosquitto import LIMIT, until

from forwardpass.edge.inputs import create_input, folder
from forwardpass.edge.inputs.folder import FolderConfig, FolderInput
from forwardpass.errors import InvalidSettings


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def watch(folder: Path, clock: Clock | None = None, **more: Any) -> FolderInput:
    config = FolderConfig(path="in", **{"every": 0.01, "settle": 0, **more})
    (folder / "in").mkdir(exist_ok=True)
    return FolderInput(config, "", folder, clock or Clock())


def run(test: Awaitable[None]) -> None:
    asyncio.run(asyncio.wait_for(test, 2 * LIMIT))


async def until_counted(source: FolderInput, predict: Echo, number: int) -> None:
    task = asyncio.create_task(source.run(predict))
    await until(lambda: source.counts["answered"] + source.counts["failed"] >= number)
    await until(lambda: len(list((source._folder).glob("*.*"))) == 0)
    task.cancel()
    await asyncio.wait([task])


def test_answered_files_lie_in_done_with_their_answer_and_bad_ones_in_failed_with_the_reason(tmp_path: Path) -> None:
    source, predict = watch(tmp_path), Echo()
    for name, content in {
        "a.json": b'{"instances": [1, 2]}',
        "b.json": b"{",
        "c.txt": b"hello",
        "d.png": b"\xff",
    }.items():
        (tmp_path / "in" / name).write_bytes(content)
    run(until_counted(source, predict, 4))
    done, failed = tmp_path / "in/done", tmp_path / "in/failed"
    assert [(where, rows) for where, rows, _ in predict.asked] == [
        ("folder:in#a.json", [1, 2]), ("folder:in#c.txt", ["hello"]), ("folder:in#d.png", [{"b64": "/w=="}])
    ]  # fmt: skip
    assert json.loads((done / "a.json.answer.json").read_text())["predictions"] == [1, 2]
    assert sorted(path.name for path in failed.iterdir()) == ["b.json", "b.json.error"]
    assert (failed / "b.json.error").read_text().startswith("not valid JSON")
    assert (done / "d.png").read_bytes() == b"\xff"


def test_a_file_is_read_when_it_has_not_changed_for_a_while(tmp_path: Path) -> None:
    clock = Clock()
    source = watch(tmp_path, clock, settle=2.0)
    file = tmp_path / "in" / "a.json"
    file.write_bytes(b'{"half')
    assert source._complete() == []
    clock.now += 1.9
    with file.open("ab") as growing:
        growing.write(b'": 1}')
    assert source._complete() == []  # it has just changed
    clock.now += 1.9
    assert source._complete() == []
    clock.now += 0.2
    assert source._complete() == [file]
    os.utime(file, ns=(1, 1))
    assert source._complete() == []


@pytest.mark.parametrize("name", [".hidden.json", "a.json.tmp", "a.json.part", "a.json~"])
def test_unfinished_names_folders_and_links_are_left_alone(tmp_path: Path, name: str) -> None:
    source = watch(tmp_path)
    (tmp_path / "in" / name).write_bytes(b"1")
    (tmp_path / "in" / "folder.json").mkdir()
    (tmp_path / "in" / "link.json").symlink_to(tmp_path / "in" / name)
    assert source._complete() == []


def test_a_file_that_was_asked_about_before_a_crash_is_asked_about_under_the_same_id(tmp_path: Path) -> None:
    async def crash(predict: Echo) -> None:
        predict.gate.clear()
        task = asyncio.create_task(watch(tmp_path).run(predict))
        await until(lambda: bool(predict.asked))
        task.cancel()
        await asyncio.wait([task])

    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.json").write_bytes(b"1")
    first, second = Echo(), Echo()
    run(crash(first))
    (tmp_path / "in/b.json").write_bytes(b"1")
    run(until_counted(watch(tmp_path), second, 2))
    ids = [name for _, _, name in second.asked]
    assert [name for _, _, name in first.asked] == ids[:1]
    assert len(set(ids)) == 2  # what a file is called counts too


def test_a_second_file_of_one_name_does_not_replace_the_first(tmp_path: Path) -> None:
    for content in (b"1", b"2"):
        source = watch(tmp_path)
        (tmp_path / "in/a.json").write_bytes(content)
        run(until_counted(source, Echo(), 1))
    done = tmp_path / "in/done"
    assert sorted(path.name for path in done.iterdir()) == [
        "a-2.json", "a-2.json.answer.json", "a.json", "a.json.answer.json"
    ]  # fmt: skip
    assert (done / "a.json").read_bytes() == b"1"


def test_a_file_that_cannot_be_moved_is_asked_about_once_and_holds_up_no_other(tmp_path: Path) -> None:
    async def test() -> None:
        source, predict = watch(tmp_path), Echo()
        for name in ("a", "b"):
            (tmp_path / f"in/{name}.json").write_bytes(b"1")
        in_the_way = tmp_path / "in/done/a.json.answer.json"
        in_the_way.mkdir(parents=True)
        task = asyncio.create_task(source.run(predict))
        await until(lambda: (tmp_path / "in/done/b.json").exists() and bool(source.problem))
        (tmp_path / "in/a.json").write_bytes(b"22")  # it is another now
        await until(lambda: len(predict.asked) == 3)
        (tmp_path / "in/c.json").write_bytes(b"3")
        await until(lambda: (tmp_path / "in/done/c.json").exists())
        assert source.problem
        in_the_way.rmdir()
        await until(lambda: (tmp_path / "in/done/a.json").exists() and source.problem == "")
        source.stop()
        await task
        assert predict.rows == [1, 1, 22, 3]
        assert source.counts["answered"] == source.counts["read"] == 4
        assert json.loads(in_the_way.read_text())["predictions"] == [22]

    run(test())


def test_where_too_many_cannot_be_moved_new_ones_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        source, predict = watch(tmp_path), Echo()
        in_the_way = [tmp_path / f"in/done/{name}.json.answer.json" for name in "abc"]
        for place in in_the_way:
            place.mkdir(parents=True)
            (tmp_path / "in" / place.name.removesuffix(".answer.json")).write_bytes(b"1")
        task = asyncio.create_task(source.run(predict))
        await until(lambda: len(predict.asked) == 2 and bool(source.problem))
        for place in in_the_way:
            place.rmdir()
        await until(lambda: (tmp_path / "in/done/c.json").exists())
        source.stop()
        await task
        assert [where for where, _, _ in predict.asked] == [f"folder:in#{name}.json" for name in "abc"]

    monkeypatch.setattr(folder, "MOST_LEFT", 2)
    run(test())


def test_a_name_that_is_no_text_can_be_told_of(tmp_path: Path) -> None:
    source, predict = watch(tmp_path), Echo()
    for name in (b"caf\xe9.txt", b"caf\xe9.json"):
        (tmp_path / "in" / os.fsdecode(name)).write_bytes(b"hello")
    run(until_counted(source, predict, 2))
    assert [where for where, _, _ in predict.asked] == ["folder:in#caf?.txt"]
    assert [failure.source for failure in source.failures] == ["folder:in#caf?.json"]
    assert {os.fsencode(file.name) for file in (tmp_path / "in/done").iterdir()} >= {b"caf\xe9.txt"}


def test_another_file_of_the_same_name_and_content_has_another_id(tmp_path: Path) -> None:
    async def test() -> None:
        source, predict = watch(tmp_path), Echo()
        task = asyncio.create_task(source.run(predict))
        for number in (1, 2):
            (tmp_path / "in/a.json.tmp").write_bytes(b"1")
            os.utime(tmp_path / "in/a.json.tmp", ns=(number, number))
            (tmp_path / "in/a.json.tmp").rename(tmp_path / "in/a.json")
            await until(lambda: not (tmp_path / "in/a.json").exists())
        source.stop()
        await task
        assert len({name for _, _, name in predict.asked}) == 2

    run(test())


def replace(file: Path, content: bytes) -> None:
    file.with_suffix(".tmp").write_bytes(content)
    file.with_suffix(".tmp").replace(file)


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("change", [replace, Path.write_bytes])
def test_what_takes_the_place_of_a_file_that_is_asked_about_is_asked_about_too(
    tmp_path: Path, keep: bool, change: Callable[[Path, bytes], Any]
) -> None:
    async def test() -> None:
        source, predict = watch(tmp_path, keep=keep), Echo()
        predict.gate.clear()
        file = tmp_path / "in/a.json"
        file.write_bytes(b"1")
        task = asyncio.create_task(source.run(predict))
        await until(lambda: predict.rows == [1])
        change(file, b"22")
        predict.gate.set()
        await until(lambda: predict.rows == [1, 22] and not file.exists())
        source.stop()
        await task
        kept = {path.name: path.read_bytes() for path in (tmp_path / "in/done").iterdir()}
        if keep:
            assert json.loads(kept.pop("a.json.answer.json"))["predictions"] == [22]
            assert kept == {"a.json": b"22"}
        else:
            assert kept == {}
        assert not source.problem

    run(test())


def test_a_file_that_is_replaced_before_its_turn_is_asked_about_once(tmp_path: Path) -> None:
    async def test() -> None:
        source, predict = watch(tmp_path), Echo()
        predict.gate.clear()
        for name in "ab":
            (tmp_path / f"in/{name}.json").write_bytes(b"1")
        task = asyncio.create_task(source.run(predict))
        await until(lambda: predict.rows == [1])
        replace(tmp_path / "in/b.json", b"22")
        predict.gate.set()
        await until(lambda: (tmp_path / "in/done/b.json").exists())
        source.stop()
        await task
        assert predict.rows == [1, 22]

    run(test())


def test_answered_files_need_not_be_kept(tmp_path: Path) -> None:
    source = watch(tmp_path, keep=False)
    (tmp_path / "in/a.json").write_bytes(b"1")
    run(until_counted(source, Echo(), 1))
    assert list((tmp_path / "in/done").iterdir()) == []


def test_a_file_that_is_too_large_is_set_aside(tmp_path: Path) -> None:
    source = watch(tmp_path, max_bytes=3)
    (tmp_path / "in/a.json").write_bytes(b"12345")
    run(until_counted(source, Echo(), 1))
    assert "5 bytes are more than max_bytes: 3" in (tmp_path / "in/failed/a.json.error").read_text()


def test_a_folder_that_cannot_be_read_is_a_problem_that_passes(tmp_path: Path) -> None:
    async def test() -> None:
        source = FolderInput(FolderConfig(path="in", every=0.01, settle=0), "", tmp_path)
        (tmp_path / "in").write_bytes(b"a file is in the way")
        task = asyncio.create_task(source.run(Echo()))
        await until(lambda: bool(source.problem))
        (tmp_path / "in").unlink()
        await until(lambda: source.problem == "")
        task.cancel()
        await asyncio.wait([task])

    run(test())


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({}, "^inputs: folder: `path` is missing"),
        ({"path": "a", "every": 0}, "every"),
        ({"path": "a", "setle": 0}, "Did you mean 'settle'"),
        ({"path": "a", "payload": "jso"}, "^inputs: folder: payload: unknown value 'jso'. Did you mean 'json'"),
    ],
)
def test_an_entry_that_makes_no_sense_is_refused(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSettings, match=message):
        create_input({"type": "folder", **entry})
