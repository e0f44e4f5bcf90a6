"""Another machine as a target, reached by the system's own ``ssh``.

    ssh [user@]host PYTHON -m forwardpass.optimize.targets.far      one connection for a whole search

Whatever ``ssh`` is configured to do holds (keys, ports, jump hosts); it never asks for anything. A connection that
breaks is opened again, and what was under way is measured once more. Knows no search.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from time import monotonic, sleep

from forwardpass import __version__
from forwardpass.errors import InvalidInput
from forwardpass.optimize.probe import Measured
from forwardpass.optimize.targets import link
from forwardpass.optimize.targets.base import Host, Order, ProbeFailed, TargetFailed
from forwardpass.optimize.targets.connection import Connection
from forwardpass.optimize.targets.link import Broken, File, Task
from forwardpass.optimize.targets.payload import pack

MODULE = "forwardpass.optimize.targets.far"
OPTIONS = ("BatchMode=yes", "ConnectTimeout=15", "ServerAliveInterval=10", "ServerAliveCountMax=3")
REOPENING = 60.0  # seconds in which a connection that broke is opened again, or never
_ADDRESS = re.compile(
    r"(?:(?P<user>[A-Za-z0-9_][^@\s:]*)@)?"
    r"(?P<host>[A-Za-z0-9_][A-Za-z0-9_.-]*|\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9]+)?\])(?::(?P<port>[0-9]+))?"
)
_MODULE = re.compile(r"No module named '?([\w.]+)")


@dataclass(frozen=True)
class Address:
    """``where`` is ``[user@]host`` as ``ssh`` takes it; ``port`` None: what ssh is configured for."""

    where: str
    port: int | None = None

    def __str__(self) -> str:
        return self.where if self.port is None else f"{self.where}:{self.port}"


def parse_address(text: str) -> Address:
    """Raises ``InvalidInput`` for what is not ``[user@]host[:port]``."""
    found = _ADDRESS.fullmatch(text)
    port = int(found["port"]) if found and found["port"] else None
    if found is None or not (port is None or 0 < port < 2**16):
        raise InvalidInput(
            f"--target {text!r}: it must be local, or a machine that ssh knows: host, user@host or user@host:port"
        )
    user = f"{found['user']}@" if found["user"] else ""
    return Address(user + found["host"].strip("[]"), port)


class Ssh:
    """``python`` is the words of the far shell that start Python, such as ``/opt/fp/bin/python``."""

    def __init__(self, address: Address, python: str = "python3", reopening: float = REOPENING) -> None:
        self.name = str(address)
        port = [] if address.port is None else ["-p", str(address.port)]
        options = [word for option in OPTIONS for word in ("-o", option)]
        self._command = ["ssh", "-T", *options, *port, "--", address.where, f"{python} -m {MODULE}"]
        self._python = python
        self._reopening = reopening
        self._connection: Connection | None = None
        self._host: Host | None = None
        self._known: dict[tuple[Path, int, int], File] = {}

    def host(self) -> Host:
        if self._host is None:
            self._open()
            assert self._host is not None
        return self._host

    def measure(self, order: Order) -> Measured:
        task, files = self._task(order)
        try:
            return self._measure(order, task, files)
        except Broken:
            self.close()
        try:
            return self._measure(order, task, files)
        except Broken as error:
            self.close()
            raise ProbeFailed(f"the connection to {self.name} broke twice while it was measured: {error}") from None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _task(self, order: Order) -> tuple[Task, dict[str, Path]]:
        payload = pack(order.model)
        files = {f"model/{name}": path for name, path in payload.files.items()} | {"rows.npz": order.rows}
        described = {name: self._describe(path) for name, path in files.items()}
        model, predict = f"model/{payload.path}", order.predictions is not None
        return Task(described, model, "rows.npz", predict, order.threads, order.seconds, order.timeout), files

    def _describe(self, path: Path) -> File:
        """A file's digest, computed once while it stays as it is."""
        facts = path.stat()
        key = (path, facts.st_size, facts.st_mtime_ns)
        if key not in self._known:
            self._known[key] = link.file_of(path)
        return self._known[key]

    def _measure(self, order: Order, task: Task, files: dict[str, Path]) -> Measured:
        connection = self._connection or self._open()
        answer = connection.ask(task, files, order.predictions)
        if answer.refused:
            raise TargetFailed(
                f"{self.name} cannot store the model in {connection.hello.folder}: {answer.refused}. Make room there, "
                f"or name another folder: --target-command 'TMPDIR=/another/folder {self._python}'"
            )
        if answer.failed:
            raise ProbeFailed(answer.failed)
        return answer.measured

    def _open(self) -> Connection:
        """Connect. The first time at once or not at all, later for as long as a machine may be away."""
        end = monotonic() + (self._reopening if self._host else 0.0)
        pause = 0.5
        while True:
            try:
                connection = self._connect()
                break
            except TargetFailed:
                if monotonic() + pause > end:
                    raise
                sleep(pause)
                pause *= 2
        self._connection, self._host = connection, connection.hello.host
        return connection

    def _connect(self) -> Connection:
        if which("ssh") is None:
            raise TargetFailed(f"{self.name}: there is no ssh on this machine; install OpenSSH's client")
        connection = Connection(self._command)
        try:
            connection.begin()
        except Broken as error:
            connection.close()
            raise TargetFailed(self._why(connection, error)) from None
        if connection.hello.version != __version__:
            connection.close()
            raise TargetFailed(
                f"{self.name} has forwardpass {connection.hello.version}, here is {__version__}: both must be the same"
            )
        return connection

    def _why(self, connection: Connection, error: Broken) -> str:
        """What ssh or the far shell said, and what to do."""
        said, name = connection.said(), self.name
        how = f"say how Python is started there with --target-command (now: {self._python})"
        if "Permission denied (" in said:
            return f"{name} refused this machine's keys (passwords are not asked for): ssh-copy-id {name} adds one"
        if "Host key verification failed" in said:
            return f"{name} is not known, or its key has changed: look with ssh {name}"
        if lacking := _MODULE.search(said):
            other = lacking[1].startswith("forwardpass.")
            what = "has another version of forwardpass" if other else f"has no {lacking[1]} for this Python"
            return f"{name} {what}: install forwardpass {__version__} there, or {how}"
        if connection.status == 255:
            return f"{name} cannot be reached: {said or error}"
        if connection.status in (126, 127):
            return f"{name} has no such Python ({said or self._python}): {how}"
        return f"{name}: {said or error}; it was started with: {self._python} -m {MODULE}"
