"""Hands new connections on to the process that began to listen last on the same port.

For rolling restarts: with ``SO_REUSEPORT`` the kernel spreads new connections over all who listen,
also over one that is about to close and would take those it has not accepted with it. A filter of
four instructions, which all listeners of a port share, says otherwise (Linux; elsewhere nothing
happens). Knows no server and no door.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import sys
from contextlib import suppress

_ATTACH = 51  # SO_ATTACH_REUSEPORT_CBPF, which the standard library does not name
_LOAD_RANDOM = (0x20, 0xFFFFF000 + 56)  # A = a random number
_MODULO, _ADD, _RETURN = 0x94, 0x04, 0x16  # A %= k, A += k, return A


def hand_over(sock: socket.socket, listeners: int = 1) -> bool:
    """Let new connections go to those who listen besides; whether the system can do that.

    ``listeners`` is how many sockets each process has on the port: the kernel numbers them in the
    order in which they began to listen, and this process's come first. Where nobody else listens,
    they come here as before; where this one closes, they go to whoever is left.
    """
    if sys.platform != "linux":
        return False
    steps = (_LOAD_RANDOM, (_MODULO, listeners), (_ADD, listeners), (_RETURN, 0))
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", code, 0, 0, value) for code, value in steps))
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, _ATTACH, struct.pack("HP", len(steps), ctypes.addressof(program)))
        return True
    return False
