"""A channel between two processes of ours: whole messages in order, some with file descriptors.

    <u32 length> <message>

Sending never blocks the event loop; what the other side has not read yet is kept.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Callable, Sequence
from struct import Struct as Layout
from typing import Any

import msgspec

from forwardpass.engine.link import MOST_FDS

log = logging.getLogger(__name__)

_LENGTH = Layout("<I")
_CHUNK = 256 * 1024
_encode = msgspec.msgpack.Encoder().encode


class Channel:
    """One end. ``heard`` is called with each message (of type ``kind``) and the descriptors that came
    with it, in order; ``closed`` once the other side is gone."""

    def __init__(self, sock: socket.socket, kind: Any, fds_of: Callable[[Any], int] = lambda message: 0) -> None:
        self.heard: Callable[[Any, list[int]], None] = lambda message, fds: None
        self.closed: Callable[[], None] = lambda: None
        self._sock = sock
        self._decoder = msgspec.msgpack.Decoder(kind)
        self._fds_of = fds_of
        self._received = bytearray()
        self._fds: deque[int] = deque()
        self._unsent: deque[tuple[bytes, Sequence[int], Callable[[], None]]] = deque()
        self._loop = asyncio.get_running_loop()
        sock.setblocking(False)
        self._loop.add_reader(sock.fileno(), self._read)

    def send(self, message: Any, fds: Sequence[int] = (), sent: Callable[[], None] = lambda: None) -> None:
        """Send a message; ``sent`` is called once its descriptors need no longer stay open here.

        Where the other side is gone, nothing is sent.
        """
        if self._sock.fileno() < 0:
            sent()
            return
        body = _encode(message)
        self._unsent.append((_LENGTH.pack(len(body)) + body, fds, sent))
        if len(self._unsent) == 1:
            self._write()

    def close(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
            self._loop.remove_writer(self._sock.fileno())
            self._sock.close()
        while self._unsent:
            self._unsent.popleft()[2]()

    def _write(self) -> None:
        self._loop.remove_writer(self._sock.fileno())
        while self._unsent:
            data, fds, sent = self._unsent[0]
            try:
                count = socket.send_fds(self._sock, [data], fds) if fds else self._sock.send(data)
            except BlockingIOError:
                self._loop.add_writer(self._sock.fileno(), self._write)
                return
            except OSError:  # the reader hears that it is gone
                return
            if count < len(data):  # the descriptors went with the first byte
                self._unsent[0] = (data[count:], (), sent)
                continue
            self._unsent.popleft()
            sent()

    def _read(self) -> None:
        try:
            data, fds, flags, _ = socket.recv_fds(self._sock, _CHUNK, MOST_FDS)
        except BlockingIOError:
            return
        except OSError:
            data, fds, flags = b"", [], 0
        if flags & socket.MSG_CTRUNC:
            log.error("descriptors were lost: this process may open no more files")
            data = b""
        if not data:
            self.close()
            self.closed()
            return
        self._received += data
        self._fds.extend(fds)
        self._hear()

    def _hear(self) -> None:
        while len(self._received) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(self._received)[0]
            if len(self._received) < end:
                return
            message = self._decoder.decode(memoryview(self._received)[_LENGTH.size : end].tobytes())
            del self._received[:end]
            self.heard(message, [self._fds.popleft() for _ in range(self._fds_of(message))])
