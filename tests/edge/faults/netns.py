"""A network of two machines on this one: a device and its cloud, joined by one wire that can be cut and slowed.

Each side is a network namespace; the wire is a veth pair. The namespaces have no names and are held by open files
alone, so nothing is left of them when the test process ends, however it ends. Knows nothing of what talks over it.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pytest

CLONE_NEWNET = 0x40000000
WIRE = "wire"  # the interface's name on both sides
DEVICE, CLOUD = "10.99.0.1", "10.99.0.2"


@dataclass(frozen=True)
class Side:
    """One machine's network; ``namespace`` is an open file."""

    namespace: int
    address: str

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Sockets, threads and processes that this thread makes meanwhile belong to this side, and stay there."""
        before = _current()
        _switch(self.namespace)
        try:
            yield
        finally:
            _switch(before)
            os.close(before)

    def run(self, *words: str) -> str:
        """The output of a command on this side. Raises ``CalledProcessError``."""
        with self.entered():
            return subprocess.run(words, check=True, capture_output=True, text=True).stdout

    def sent(self) -> int:
        """Bytes put on the wire from this side so far."""
        with self.entered(), open("/proc/thread-self/net/dev", encoding="ascii") as lines:
            numbers = next(line.split(":")[1].split() for line in lines if line.strip().startswith(f"{WIRE}:"))
        return int(numbers[8])


@dataclass(frozen=True)
class Network:
    """Both sides and the wire between them."""

    device: Side
    cloud: Side

    def cut(self) -> None:
        """Whatever is sent from now on vanishes: no connection is closed, nobody is told."""
        self.cloud.run("ip", "link", "set", WIRE, "down")

    def mend(self) -> None:
        self.cloud.run("ip", "link", "set", WIRE, "up")

    def slow(self, rate: str, burst: str = "16k") -> None:
        """At most so many bits per second each way, such as ``2mbit``, after so many bytes at once."""
        for side in (self.device, self.cloud):
            words = ("root", "tbf", "rate", rate, "burst", burst, "latency", "2s")
            side.run("tc", "qdisc", "replace", "dev", WIRE, *words)

    def hurry(self) -> None:
        """As fast as it can be, again."""
        for side in (self.device, self.cloud):
            side.run("tc", "qdisc", "del", "dev", WIRE, "root")


@contextmanager
def network() -> Iterator[Network]:
    """A network that works; skips the test where none can be made."""
    if sys.platform != "linux" or shutil.which("ip") is None or shutil.which("tc") is None:
        pytest.skip("network namespaces need Linux with ip and tc (iproute2)")
    with ExitStack() as stack:
        sides = []
        try:
            for address in (DEVICE, CLOUD):
                sides.append(Side(_new(), address))
                stack.callback(os.close, sides[-1].namespace)
            made = Network(*sides)
            _connect(made)
            made.slow("1gbit")
            made.hurry()
        except (OSError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", None) or str(error)
            pytest.skip(f"network namespaces cannot be made here: {said.strip()}")
        yield made


def _connect(made: Network) -> None:
    there = f"/proc/{os.getpid()}/fd/{made.cloud.namespace}"
    made.device.run("ip", "link", "add", "name", WIRE, "type", "veth", "peer", "name", "other")
    made.device.run("ip", "link", "set", "other", "netns", there)
    made.cloud.run("ip", "link", "set", "other", "name", WIRE)
    for side in (made.device, made.cloud):
        side.run("ip", "address", "add", f"{side.address}/24", "dev", WIRE)
        for interface in ("lo", WIRE):
            side.run("ip", "link", "set", interface, "up")
    _introduce(made.device, made.cloud)
    _introduce(made.cloud, made.device)


def _introduce(side: Side, other: Side) -> None:
    """Tell a side for good where the other is: else it finds out soon that nobody is there, and says so."""
    (link,) = json.loads(other.run("ip", "-json", "link", "show", WIRE))
    words = ("replace", other.address, "lladdr", link["address"], "dev", WIRE, "nud", "permanent")
    side.run("ip", "neighbour", *words)


def _new() -> int:
    """An open namespace of its own."""
    before = _current()
    try:
        _call("unshare", CLONE_NEWNET)
        return _current()
    finally:
        _switch(before)
        os.close(before)


def _current() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _switch(namespace: int) -> None:
    _call("setns", namespace, CLONE_NEWNET)


def _call(name: str, *numbers: int) -> None:
    """One of the C library's, which Python has only since 3.12."""
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, name)(*numbers) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
