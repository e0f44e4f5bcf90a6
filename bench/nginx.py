"""(c) Debian's nginx with one worker and fixed replies: what HTTP itself costs on this machine.

It reads the same requests and answers with bodies of the same size as Forwardpass's, and does
nothing else; or, as a proxy, passes all of them on. The configuration and everything it writes stay in
the work folder.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

CONFIG = """\
daemon off;
worker_processes 1;
pid nginx.pid;
error_log error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
{upstream}
    server {{
        listen 127.0.0.1:{port} backlog=1024;
{locations}
    }}
}}
"""
LOCATION = """\
        location = {path} {{
            default_type {content_type};
            return 200 "{body}";
        }}"""


UPSTREAM = """\
    upstream far {{
        server 127.0.0.1:{port};
        keepalive 64;
        keepalive_requests 1000000000;
    }}"""
PASS = """\
        location / {
            proxy_pass http://far;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }"""


def version() -> str | None:
    """nginx's version, ``None`` where it is not installed."""
    program = find()
    if program is None:
        return None
    return (
        subprocess.run([program, "-v"], capture_output=True, text=True).stderr.strip().removeprefix("nginx version: ")
    )


def find() -> str | None:
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


def command(folder: Path, port: int, json_size: int, binary_size: int) -> list[str]:
    """Write the configuration and say how to start it: fixed bodies at ``/json`` and ``/binary``, sizes in bytes."""
    replies = (("/json", "application/json", json_size), ("/binary", "application/octet-stream", binary_size))
    locations = [LOCATION.format(path=path, content_type=kind, body="x" * size) for path, kind, size in replies]
    return _command(folder, CONFIG.format(port=port, upstream="", locations="\n".join(locations)))


def proxy_command(folder: Path, port: int, far: int) -> list[str]:
    """As ``command``, for a reverse proxy to what listens on the port ``far``."""
    return _command(folder, CONFIG.format(port=port, upstream=UPSTREAM.format(port=far), locations=PASS))


def _command(folder: Path, config: str) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "nginx.conf").write_text(config)
    where = str(folder.resolve())
    return [find() or "nginx", "-p", where, "-c", f"{where}/nginx.conf", "-e", f"{where}/error.log"]
