"""New connections go to the newest listener, and nobody who connects is lost when the older one closes."""

from __future__ import annotations

import contextlib
import socket
import sys

import pytest

from forwardpass.server.handover import hand_over

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's filter is Linux's own")


def listener(port: int = 0) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", port))
    sock.listen(256)
    sock.setblocking(False)
    return sock


def connect(stack: contextlib.ExitStack, port: int, count: int = 100) -> None:
    for _ in range(count):
        stack.enter_context(socket.create_connection(("127.0.0.1", port), 2))


def waiting(sock: socket.socket) -> int:
    """How many connections it accepts now."""
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.accept()[0].close()
            count += 1
    return count


def test_the_newest_listener_gets_all_and_keeps_them() -> None:
    with contextlib.ExitStack() as stack:
        old = stack.enter_context(listener())
        port = old.getsockname()[1]
        for _ in range(3):  # one restart after the other
            new = stack.enter_context(listener(port))
            assert hand_over(old)
            connect(stack, port)
            assert (waiting(old), waiting(new)) == (0, 100)
            old.close()
            connect(stack, port)
            assert waiting(new) == 100
            old = new


def test_several_listeners_each_hand_over_to_all_of_the_others() -> None:
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(listener())
        port = first.getsockname()[1]
        old = [first, stack.enter_context(listener(port))]
        new = [stack.enter_context(listener(port)) for _ in range(2)]
        assert all(hand_over(sock, 2) for sock in old)
        connect(stack, port, 200)
        assert [waiting(sock) for sock in old] == [0, 0]
        got = [waiting(sock) for sock in new]
        assert sum(got) == 200
        assert min(got) > 50


def test_a_listener_without_company_takes_its_own() -> None:
    with contextlib.ExitStack() as stack:
        only = stack.enter_context(listener())
        assert hand_over(only)
        connect(stack, only.getsockname()[1])
        assert waiting(only) == 100


def test_a_socket_that_is_not_shared_is_left_as_it_is() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        assert not hand_over(sock)
        with socket.create_connection(sock.getsockname(), 2):
            sock.accept()[0].close()
