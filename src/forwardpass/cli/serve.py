"""``forwardpass serve``: models over HTTP."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from forwardpass.config import Settings
    from forwardpass.engine.nursery import Nursery


def serve(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH", help="An artifact, a model folder, or a repository of them.")
    ],
    host: Annotated[str | None, typer.Option(help="Address to listen on. [default: 127.0.0.1]")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="HTTP port; 0 takes a free one. [default: 8000]")
    ] = None,
    replicas: Annotated[int | None, typer.Option(min=1, help="Worker processes per model. [default: 1]")] = None,
    cores: Annotated[int | None, typer.Option(min=1, help="Cores to plan for. [default: all]")] = None,
    max_body_bytes: Annotated[int | None, typer.Option(min=1, help="Largest request body. [default: 64 MiB]")] = None,
    model_control: Annotated[
        bool | None,
        typer.Option(help="Load and unload models over the API. [default: only when on loopback]"),
    ] = None,
    drain_timeout: Annotated[
        float | None, typer.Option(min=0, help="Seconds to finish after SIGTERM. [default: 30]")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML file with any of the settings.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error. [default: info]")] = None,
) -> None:
    """Serve models over HTTP.

    Prints the models, the addresses and a curl line for each model. Settings may also come from
    --config and from the environment (FORWARDPASS_PORT …); flags win. Ctrl-C finishes what is
    under way and stops.

    \b
    Example:
      forwardpass serve examples/models --port 8000
    """
    import os

    from forwardpass.config import read_settings
    from forwardpass.engine.nursery import Nursery
    from forwardpass.registry import locate_models

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
    for path in paths:
        locate_models(path)  # where there is nothing, say so before anything is started
    with _without_interrupt():
        nursery = Nursery(settings.log_level)  # it imports what workers need while this process imports the rest
    _serve(paths, settings, nursery)


def _serve(paths: list[Path], settings: Settings, nursery: Nursery) -> None:
    import logging

    from forwardpass.cli.greeting import base_url, greeting
    from forwardpass.cli.output import say
    from forwardpass.server.dataplane import DataPlane
    from forwardpass.server.http.server import listen, run

    logging.basicConfig(level=settings.log_level.upper(), format="%(levelname)s %(message)s")
    logging.getLogger("uvicorn").setLevel("WARNING")
    sock = listen(settings.host, settings.port)

    def greet(dataplane: DataPlane) -> None:
        with contextlib.suppress(OSError):  # nobody reads it: no reason to stop serving
            say(greeting(dataplane.all(), base_url(*sock.getsockname()[:2])))

    run(paths, settings, sock, nursery, greet)


@contextlib.contextmanager
def _without_interrupt() -> Iterator[None]:
    """A process started in here never hears Ctrl-C; this one hears it afterwards, and decides."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
