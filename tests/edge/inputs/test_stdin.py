"""Lines on standard input: answers in order, a line each, whatever the lines are and however they are cut."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.edge.inputs.echo import Echo
from tests.edge.mosquitto import LIMIT, until

from forwardpass.edge.inputs import create_input
from forwardpass.edge.inputs.create import create_inputs
from forwardpass.edge.inputs.stdin import StdinConfig, StdinInput, split
from forwardpass.errors import InvalidSettings, TooLarge


def answers(content: bytes, **more: Any) -> tuple[list[Any], StdinInput]:
    """What is written for a whole input, which is a file: not every way of reading can wait for one."""

    async def run(source: StdinInput) -> None:
        await asyncio.wait_for(source.run(Echo()), LIMIT)

    with tempfile.TemporaryFile() as read, tempfile.TemporaryFile() as write:
        read.write(content)
        read.seek(0)
        source = StdinInput(StdinConfig(**more), "", Path(), read.fileno(), write.fileno())
        asyncio.run(run(source))
        write.seek(0)
        return [json.loads(line) for line in write], source


def test_every_line_is_answered_in_order_and_the_end_ends_it() -> None:
    said, source = answers(b'1\n{"a": 2}\n\n{"instances": [3, 4]}\n{"refuse": true}\n{"cut\n"\xc3\xa4"')
    assert said[:3] == [1, {"a": 2}, {"predictions": [3, 4]}]
    assert said[3] == {"error": "the model refuses this row"}
    assert said[4]["error"].startswith("not valid JSON")
    assert said[5:] == ["ä"]
    assert source.counts == {"read": 6, "answered": 4, "failed": 2, "dropped": 0}
    assert source.ends_agent


def test_text_lines_are_taken_as_they_are() -> None:
    assert answers(b'say "hello"\n', payload="text")[0] == ['say "hello"']


def test_many_more_lines_than_are_read_ahead() -> None:
    assert answers(b"".join(b"%d\n" % number for number in range(500)))[0] == list(range(500))


def test_a_line_that_is_too_long_is_refused_and_the_next_one_answered() -> None:
    said, _ = answers(b"1" * 40 + b"\n2\n", max_bytes=8)
    assert said == [{"error": "the line is longer than max_bytes: 8 allows"}, 2]


def test_it_ends_when_nobody_reads_the_answers() -> None:
    async def run() -> None:
        (read, write), (gone, answered) = os.pipe(), os.pipe()
        os.close(gone)
        os.write(write, b"1\n")
        source = StdinInput(StdinConfig(), "", Path(), read, answered)
        await asyncio.wait_for(source.run(Echo()), LIMIT)
        assert "nobody reads" in source.problem
        for descriptor in (read, write, answered):
            os.close(descriptor)

    asyncio.run(run())


def test_it_can_be_stopped_while_whoever_reads_the_answers_does_not() -> None:
    async def run() -> None:
        (read, write), (answer, answered) = os.pipe(), os.pipe()
        source = StdinInput(StdinConfig(), "", Path(), read, answered)
        task = asyncio.create_task(source.run(Echo()))
        await asyncio.to_thread(os.write, write, b'"' + b"x" * 60_000 + b'"\n' + b'"' + b"x" * 60_000 + b'"\n' + b"1\n")
        await until(lambda: source.counts["answered"] >= 2)  # the second answer finds no room
        task.cancel()
        await asyncio.wait([task], timeout=LIMIT)
        assert task.cancelled()
        for descriptor in (read, write, answer, answered):
            os.close(descriptor)

    asyncio.run(run())


def test_it_ends_and_says_why_where_nothing_can_be_read(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    source = StdinInput(StdinConfig(), "", Path(), folder, folder)
    asyncio.run(asyncio.wait_for(source.run(Echo()), LIMIT))
    assert "directory" in source.problem
    os.close(folder)


def test_stopped_it_answers_every_whole_line_that_was_read() -> None:
    async def run() -> None:
        (read, write), answered = os.pipe(), os.open(os.devnull, os.O_WRONLY)
        source, predict = StdinInput(StdinConfig(), "", Path(), read, answered), Echo()
        predict.gate.clear()
        os.write(write, b"".join(b"%d\n" % number for number in range(500)) + b"50")  # one chunk, more than AHEAD
        task = asyncio.create_task(source.run(predict))
        await until(lambda: bool(predict.asked))
        source.stop()
        predict.gate.set()
        await asyncio.wait_for(task, LIMIT)
        assert predict.rows == list(range(500))
        assert source.counts == {"read": 500, "answered": 500, "failed": 0, "dropped": 0}
        for descriptor in (read, write, answered):
            os.close(descriptor)

    asyncio.run(run())


@settings(deadline=None)
@given(st.lists(st.binary(max_size=12)), st.integers(1, 8))
def test_lines_do_not_depend_on_how_the_bytes_arrive(chunks: list[bytes], most: int) -> None:
    arriving = iter([chunk for chunk in chunks if chunk])
    found = list(split(lambda: next(arriving, b""), most))
    whole = b"".join(chunks).split(b"\n")
    wanted = whole if whole[-1] else whole[:-1]
    assert [None if isinstance(line, TooLarge) else line for line in found] == [
        None if len(line) > most else line for line in wanted
    ]


def test_bytes_have_no_lines() -> None:
    with pytest.raises(InvalidSettings, match="json or text"):
        create_input({"type": "stdin", "payload": "bytes"})


def test_there_is_one_standard_input() -> None:
    with pytest.raises(InvalidSettings, match="stdin stands there more than once"):
        create_inputs([{"type": "stdin"}, {"type": "folder", "path": "in"}, {"type": "stdin", "payload": "text"}])
