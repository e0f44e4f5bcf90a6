"""A channel between two processes: whole messages in order, each with its own descriptors."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import msgspec
import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from forwardpass.server.fronts.channel import _LENGTH, Channel


class Note(msgspec.Struct):
    text: bytes
    fds: int = 0


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """On the server's kind of loop; what a callback raises fails the test."""
    wrong: list[dict[str, Any]] = []

    async def inside() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: wrong.append(context))
        await asyncio.wait_for(main(), 20)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(inside())
    assert wrong == []


async def until(true: Callable[[], bool]) -> None:
    while not true():
        await asyncio.sleep(0.001)


class End:
    """One end of a channel, and what it heard: texts, and what the descriptors lead to."""

    def __init__(self, sock: socket.socket) -> None:
        self.heard: list[tuple[bytes, list[int]]] = []
        self.closed = 0
        self.channel = Channel(sock, Note, lambda note: note.fds)
        self.channel.heard = self._hear
        self.channel.closed = self._close

    def _hear(self, note: Note, fds: list[int]) -> None:
        self.heard.append((note.text, [os.fstat(fd).st_ino for fd in fds]))
        for fd in fds:
            os.close(fd)

    def _close(self) -> None:
        self.closed += 1


notes = st.lists(st.tuples(st.binary(max_size=300), st.integers(0, 3)), min_size=1, max_size=12)


@settings(deadline=None, max_examples=40)
@given(notes, notes)
def test_messages_and_descriptors_arrive_in_order_both_ways(
    there: list[tuple[bytes, int]], back: list[tuple[bytes, int]]
) -> None:
    async def main() -> None:
        ends = [End(sock) for sock in socket.socketpair()]
        sent = [0, 0]
        wanted: list[list[tuple[bytes, list[int]]]] = [[], []]
        kept = []

        def was_sent(place: int) -> None:
            sent[place] += 1

        for place, some in enumerate((there, back)):
            for text, count in some:
                fds = [os.memfd_create(f"{number}") for number in range(count)]
                kept += fds
                wanted[1 - place].append((text, [os.fstat(fd).st_ino for fd in fds]))
                ends[place].channel.send(Note(text, count), fds, partial(was_sent, place))
        await until(lambda: all(len(end.heard) == len(want) for end, want in zip(ends, wanted, strict=True)))
        assert [end.heard for end in ends] == wanted
        assert sent == [len(there), len(back)]
        for fd in kept:
            os.close(fd)
        for end in ends:
            end.channel.close()

    run(main)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.binary(max_size=200), min_size=1, max_size=8), st.data())
def test_any_cut_of_the_stream_gives_the_same_messages(texts: list[bytes], data: st.DataObject) -> None:
    bodies = [msgspec.msgpack.encode(Note(text)) for text in texts]
    stream = b"".join(_LENGTH.pack(len(body)) + body for body in bodies)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))

    async def main() -> None:
        ours, theirs = socket.socketpair()
        end = End(theirs)
        for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            if start < stop:
                ours.send(stream[start:stop])
                await asyncio.sleep(0)
        await until(lambda: len(end.heard) == len(texts))
        assert [text for text, _ in end.heard] == texts
        ours.close()
        await until(lambda: end.closed == 1)

    run(main)


def test_a_slow_reader_gets_everything_and_holds_nobody_up() -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        writer = End(ours)
        done: list[int] = []
        texts = [bytes([number]) * (1 << 20) for number in range(6)]
        fds = [os.memfd_create("one") for _ in texts]
        wanted = [(text, [os.fstat(fd).st_ino]) for text, fd in zip(texts, fds, strict=True)]
        for text, fd in zip(texts, fds, strict=True):
            writer.channel.send(Note(text, 1), [fd], partial(done.append, fd))
        await asyncio.sleep(0.05)
        assert done == [], "nothing was read: the descriptors stay open until they can go"
        reader = End(theirs)
        await until(lambda: len(reader.heard) == len(texts))
        assert reader.heard == wanted
        assert done == fds
        for fd in fds:
            os.close(fd)
        reader.channel.close()
        await until(lambda: writer.closed == 1)

    run(main)


@pytest.mark.parametrize("who", ["reader", "writer"])
def test_what_cannot_be_sent_any_more_lets_its_descriptors_go(who: str) -> None:
    async def main() -> None:
        writer, reader = (End(sock) for sock in socket.socketpair())
        done: list[int] = []
        for number in range(3):
            writer.channel.send(Note(b"x" * (1 << 20)), sent=partial(done.append, number))
        (reader if who == "reader" else writer).channel.close()
        await until(lambda: done == [0, 1, 2])
        writer.channel.send(Note(b"late"), sent=lambda: done.append(3))
        await until(lambda: done == [0, 1, 2, 3])
        writer.channel.close()
        writer.channel.close()
        reader.channel.close()

    run(main)
