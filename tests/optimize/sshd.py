"""A real SSH server on a free port with keys of its own, and an ``ssh`` in front of the PATH that knows it.

Needs OpenSSH's server, client and keygen; uses no file of the user's, and opens no port but on loopback.
"""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from time import monotonic, sleep

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
LACKING = [name for name, path in (("sshd", SSHD), ("ssh", shutil.which("ssh"))) if path is None]
_PRIVILEGES = Path("/run/sshd")  # which the server wants where root starts it


@dataclass(frozen=True)
class Server:
    """``folder`` holds what the far end leaves; ``bin`` an ``ssh`` that uses this server's keys alone."""

    port: int
    folder: Path
    bin: Path
    config: Path

    @property
    def name(self) -> str:
        return f"{getpass.getuser()}@127.0.0.1:{self.port}"

    def python(self, before: str = "", **environ: object) -> str:
        """What starts this Python over there, with its temporary files in ``folder``."""
        words = {"TMPDIR": self.folder, **environ}
        return f"{before}{' '.join(f'{name}={value}' for name, value in words.items())} {sys.executable}"


@contextmanager
def serve(folder: Path) -> Iterator[Server]:
    """Start a server, and end it."""
    assert SSHD is not None
    if os.geteuid() == 0:
        _PRIVILEGES.mkdir(mode=0o755, exist_ok=True)
    for name in ("host", "client", "stranger"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    port = _free_port()
    server = Server(port, folder / "far", folder / "bin", folder / "ssh_config")
    server.folder.mkdir()
    (folder / "sshd_config").write_text(
        dedent(f"""\
        ListenAddress 127.0.0.1
        Port {port}
        HostKey {folder}/host
        AuthorizedKeysFile {folder}/client.pub
        PidFile none
        StrictModes no
        UsePAM no
        PasswordAuthentication no
        KbdInteractiveAuthentication no
        PermitRootLogin prohibit-password
        """)
    )
    _write_client(server, folder)
    with (folder / "sshd.log").open("wb") as log:
        process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=log)
    try:
        _wait_for(process, port, folder / "sshd.log")
        yield server
    finally:
        process.kill()
        process.wait()


def _write_client(server: Server, folder: Path) -> None:
    server.config.write_text(
        dedent(f"""\
        IdentityFile {folder}/client
        IdentitiesOnly yes
        IdentityAgent none
        GlobalKnownHostsFile /dev/null
        UserKnownHostsFile {folder}/known_hosts
        """)
    )
    key = (folder / "host.pub").read_text()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{server.port} {key}")
    server.bin.mkdir()
    (server.bin / "ssh").write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F "{server.config}" "$@"\n')
    (server.bin / "ssh").chmod(0o755)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = monotonic() + 60
    while monotonic() < end and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 5).close()
        except OSError:
            sleep(0.02)
        else:
            return
    raise RuntimeError(f"the SSH server did not start: {log.read_text()}")


@contextmanager
def temporary() -> Iterator[Server]:
    """A server whose files are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="fp-sshd-") as folder, serve(Path(folder)) as server:
        yield server
