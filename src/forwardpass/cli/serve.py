"""``forwardpass serve``: models over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from forwardpass.config import Settings
    from forwardpass.server.dataplane import DataPlane


def serve(
    paths: Annotated[list[Path], typer.Argument(help="An artifact, a model folder, or a repository of them.")],
    host: Annotated[str | None, typer.Option(help="Address to listen on. [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="HTTP port; 0 takes a free one. [default: 8000]")] = None,
    replicas: Annotated[int | None, typer.Option(help="Worker processes per model. [default: 1]")] = None,
    cores: Annotated[int | None, typer.Option(help="Cores to plan for. [default: all]")] = None,
    max_body_bytes: Annotated[int | None, typer.Option(help="Largest request body. [default: 64 MiB]")] = None,
    model_control: Annotated[
        bool | None,
        typer.Option(help="Load and unload models over the API. [default: only when on loopback]"),
    ] = None,
    drain_timeout: Annotated[float | None, typer.Option(help="Seconds to finish after SIGTERM. [default: 30]")] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML file with any of the settings.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error. [default: info]")] = None,
) -> None:
    """Serve models over HTTP.

    Example: forwardpass serve model.onnx --port 8000
    """
    import os

    from forwardpass.config import read_settings
    from forwardpass.engine.nursery import Nursery

    flags = {
        "host": host,
        "port": port,
        "replicas": replicas,
        "cores": cores,
        "max_body_bytes": max_body_bytes,
        "model_control": model_control,
        "drain_timeout": drain_timeout,
        "log_level": log_level,
    }
    settings = read_settings(config, os.environ, flags)
    nursery = Nursery(settings.log_level)  # it imports what workers need while this process imports the rest
    _serve(paths, settings, nursery)


def _serve(paths: list[Path], settings: Settings, nursery: object) -> None:
    import logging

    from forwardpass.server.http.server import listen, run

    logging.basicConfig(level=settings.log_level.upper(), format="%(levelname)s %(message)s")
    logging.getLogger("uvicorn").setLevel("WARNING")
    sock = listen(settings.host, settings.port)
    host, port = sock.getsockname()[:2]
    run(paths, settings, sock, nursery, lambda dataplane: _greet(dataplane, f"http://{host}:{port}"))  # type: ignore[arg-type]


def _greet(dataplane: DataPlane, url: str) -> None:
    print(f"ready at {url}", flush=True)  # noqa: T201
    for served in dataplane.all():
        print(f"  {served.name} {served.version} {served.state} {served.reason}", flush=True)  # noqa: T201
