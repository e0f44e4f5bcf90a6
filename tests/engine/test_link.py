"""A link's ends, also after one was handed to another process: messages, memory, descriptors."""

from __future__ import annotations

import socket

import numpy as np
import pytest
from tests.engine.workers import needs_proc, open_files

from forwardpass.engine.arena import Arena
from forwardpass.engine.link import MOST_FDS, Link

shared = pytest.mark.skipif(not Arena.offered(), reason="the system has no memory without a name")


def handed_over(*links: Link) -> list[Link]:
    """As another process gets them, the originals closed."""
    here, there = socket.socketpair()
    with here, there:
        socket.send_fds(here, [b"."], [fd for link in links for fd in link.fds])
        _, fds, _, _ = socket.recv_fds(there, 1, MOST_FDS)
    for link in links:
        link.close()
    return Link.all_of(fds)


def test_several_links_arrive_in_order() -> None:
    pairs = [Link.pair() for _ in range(3)]
    assert all(len(theirs.fds) == Link.width() for _, theirs in pairs)
    arrived = handed_over(*(theirs for _, theirs in pairs))
    for number, (ours, _) in enumerate(pairs):
        ours.socket.sendall(bytes([number]))
    assert [link.socket.recv(9) for link in arrived] == [b"\x00", b"\x01", b"\x02"]
    for link in [*arrived, *(ours for ours, _ in pairs)]:
        link.close()


@shared
def test_both_ends_see_the_same_memory_each_way() -> None:
    ours, theirs = Link.pair()
    (there,) = handed_over(theirs)
    ours.keep()
    for name in ("requests", "replies"):
        here, other = getattr(ours, name), getattr(there, name)
        here.view(64, 3)[:] = [1, 2, 3]
        assert other.view(64, 3).tolist() == [1, 2, 3]
        other.view(0, 1)[:] = 9
        assert here.view(0, 1).tolist() == [9]
    assert ours.requests is not None
    assert ours.replies is not None
    assert not np.array_equal(ours.requests.view(0, 1), ours.replies.view(1, 1))
    ours.close()
    there.close()


def test_the_other_end_hears_when_one_closes() -> None:
    ours, theirs = Link.pair()
    (there,) = handed_over(theirs)
    ours.close()
    assert there.socket.recv(1) == b""
    there.close()


@needs_proc
def test_nothing_stays_open() -> None:
    before = open_files()
    ours, theirs = Link.pair()
    (there,) = handed_over(theirs)
    for link in (ours, there):
        link.keep()
        assert link.fds == [link.socket.fileno()]
        link.close()
        link.close()
        assert link.socket.fileno() == -1
    del ours, theirs, there, link
    assert open_files() == before
