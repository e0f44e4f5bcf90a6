"""The agent under systemd: its unit file, and telling it that the agent is ready, lives and stops.

The protocol is a datagram to the socket that ``NOTIFY_SOCKET`` names; without it all of this does
nothing. Knows nothing of the agent.
"""

from __future__ import annotations

import math
import os
import pwd
import re
import shlex
import socket
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

_STATE = re.compile(r"/var/lib(/[\w.-]+)+", re.ASCII)  # what systemd takes as the name of a state directory
UNIT = """\
[Unit]
Description=Forwardpass agent
Wants=network.target
After=network.target
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
ExecReload=/bin/kill -HUP $MAINPID
Restart=always
RestartSec=1
WatchdogSec=30
TimeoutStartSec=120
TimeoutStopSec={stop}
KillMode=mixed
{owner}
CapabilityBoundingSet=
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome={protect_home}
PrivateTmp={private_tmp}
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectControlGroups=yes
RestrictSUIDSGID=yes
RestrictRealtime=yes
RestrictNamespaces=yes
LockPersonality=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
SystemCallArchitectures=native
UMask=0077

[Install]
WantedBy=multi-user.target
"""


PACKAGE = Path(__file__)
HOMES = ("/home", "/root", "/run/user")  # where only their owners may look
TEMPORARY = ("/tmp", "/var/tmp")  # of which each unit has its own  # noqa: S108
STOPPING = 30.0  # seconds that an agent takes to stop, beside draining twice: queues, connections, the disk


def unit(home: Path, arguments: Sequence[str], drain_timeout: float) -> str:
    """The text of a unit file that runs the agent of a home with these further arguments.

    A home under ``/var/lib`` is the unit's own, with a user that systemd makes up for it; any other has an owner, who
    runs the agent. Folders that such units do not see are shown to it where something of the agent lies there.
    """
    home = Path(os.path.abspath(home))
    command = [sys.executable, "-m", "forwardpass.device", "agent", "--home", str(home), *arguments]
    paths = [home, Path(sys.executable), PACKAGE, *map(Path, arguments)]
    paths += [path.resolve() for path in paths if path.is_absolute()]
    private, temporary = _any_below(paths, HOMES), _any_below(paths, TEMPORARY)
    return UNIT.format(
        command=" ".join(map(_quoted, command)),
        stop=math.ceil(2 * drain_timeout + STOPPING),
        owner=_owned_by_unit(home) if _STATE.fullmatch(str(home)) and not (private or temporary) else _owned(home),
        protect_home="no" if private else "yes",
        private_tmp="no" if temporary else "yes",
    )


def _owned_by_unit(home: Path) -> str:
    return f"DynamicUser=yes\nStateDirectory={home.relative_to('/var/lib')}\nStateDirectoryMode=0700"


def _owned(home: Path) -> str:
    user = home.stat().st_uid if home.exists() else os.geteuid()
    try:
        name = pwd.getpwuid(user).pw_name
    except KeyError:
        name = str(user)
    return f"User={name}\nReadWritePaths={_quoted(str(home))}"


def _any_below(paths: Iterable[Path], folders: Iterable[str]) -> bool:
    return any(path.is_relative_to(folder) for path in paths for folder in folders)


def _quoted(word: str) -> str:
    """A word of a command line as systemd reads it: its specifiers and variables escaped."""
    escaped = word.replace("%", "%%").replace("$", "$$")
    return escaped if shlex.quote(word) == word else '"' + escaped.replace("\\", "\\\\").replace('"', '\\"') + '"'


class Notifier:
    """Tells the one who started this process how it is; told by ``environ`` where to."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        self._watchdog = _watchdog(environ)

    @property
    def beat(self) -> float | None:
        """Seconds between two signs of life, half of what is asked for; None where none is."""
        return self._watchdog / 2 if self._address and self._watchdog else None

    def ready(self, status: str) -> None:
        self._tell(f"READY=1\nSTATUS={status}")

    def alive(self) -> None:
        self._tell("WATCHDOG=1")

    def status(self, text: str) -> None:
        self._tell(f"STATUS={text}")

    def stopping(self) -> None:
        self._tell("STOPPING=1")

    def _tell(self, message: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)  # whoever does not listen must not stop the agent
            sock.connect(address)
            sock.send(message.encode())


def _watchdog(environ: Mapping[str, str]) -> float:
    """Seconds, 0 where there is none, or it is meant for another process."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    text = environ.get("WATCHDOG_USEC", "0")
    return int(text) / 1e6 if text.isdigit() else 0.0
