"""``forwardpass serve``: models over HTTP and gRPC."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from forwardpass.config import Settings
    from forwardpass.engine.nursery import Nursery
    from forwardpass.server.http.jobs import Bulk
    from forwardpass.server.intake import Intake
    from forwardpass.server.tuning import Tuning


def serve(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH", help="An artifact, a model folder, or a repository of them.")
    ],
    host: Annotated[str | None, typer.Option(help="Address to listen on. [default: 127.0.0.1]")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="HTTP port; 0 takes a free one. [default: 8000]")
    ] = None,
    grpc_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="gRPC port; 0 takes a free one. [default: 8001]")
    ] = None,
    grpc: Annotated[bool | None, typer.Option(help="Serve gRPC as well. [default: yes]")] = None,
    fronts: Annotated[
        int | None, typer.Option(min=1, max=64, help="Processes that serve HTTP, on one port. [default: planned]")
    ] = None,
    reuse_port: Annotated[
        bool | None, typer.Option(help="Listen beside another server on the same port, to take over. [default: no]")
    ] = None,
    replicas: Annotated[int | None, typer.Option(min=1, help="Worker processes per model. [default: planned]")] = None,
    cores: Annotated[int | None, typer.Option(min=1, help="Cores to plan for. [default: all that may be used]")] = None,
    max_body_bytes: Annotated[int | None, typer.Option(min=1, help="Largest request body. [default: 64 MiB]")] = None,
    model_control: Annotated[
        bool | None,
        typer.Option(help="Load and unload models over the API. [default: only when on loopback]"),
    ] = None,
    drain_timeout: Annotated[
        float | None, typer.Option(min=0, help="Seconds to finish after SIGTERM. [default: 30]")
    ] = None,
    jobs: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DIR",
            help="Take jobs over the API, on files in this folder; once more for a prefix such as s3://bucket/some.",
        ),
    ] = None,
    intake: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Take in what devices send from their outboxes, and keep it in this folder."),
    ] = None,
    tune_after: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="Without requests for so long, tune models that never were on this machine; 0: never. [default: 60]",
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML file with any of the settings.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error. [default: info]")] = None,
) -> None:
    """Serve models over HTTP and gRPC.

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
        "grpc_port": grpc_port,
        "grpc": grpc,
        "fronts": fronts,
        "reuse_port": reuse_port,
        "replicas": replicas,
        "cores": cores,
        "max_body_bytes": max_body_bytes,
        "model_control": model_control,
        "drain_timeout": drain_timeout,
        "jobs": jobs or None,
        "intake": intake,
        "tune_after": tune_after,
        "log_level": log_level,
    }
    settings = read_settings(config, os.environ, flags)
    for path in paths:
        locate_models(path)  # where there is nothing, say so before anything is started
    # Until the server hears signals Ctrl-C ends it as it does any program: imports may swallow a KeyboardInterrupt.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    with _without_interrupt():
        nursery = Nursery(settings.log_level)  # it imports what workers need while this process imports the rest
    _serve(paths, settings, nursery)


def _serve(paths: list[Path], settings: Settings, nursery: Nursery) -> None:
    import logging

    from forwardpass.cli.greeting import address, base_url, greeting
    from forwardpass.cli.output import say
    from forwardpass.gateway.compose import create_composer
    from forwardpass.server.dataplane import DataPlane
    from forwardpass.server.plan import in_words
    from forwardpass.server.server import Sockets, run

    logging.basicConfig(level=settings.log_level.upper(), format="%(levelname)s %(message)s")
    logging.getLogger("uvicorn").setLevel("WARNING")
    sockets = Sockets.take(settings)
    grpc = address(*sockets.grpc.getsockname()[:2]) if sockets.grpc else None

    def greet(dataplane: DataPlane) -> None:
        with contextlib.suppress(OSError):  # nobody reads it: no reason to stop serving
            say(greeting(dataplane.all(), base_url(*sockets.http.getsockname()[:2]), in_words(settings), grpc))

    bulk = _bulk(settings, base_url(*sockets.http.getsockname()[:2]))
    run(
        paths,
        settings,
        sockets,
        nursery,
        greet,
        bulk=bulk,
        tuning=_tuning(settings),
        composer=create_composer(),
        intake=_intake(settings),
    )


def _tuning(settings: Settings) -> Tuning | None:
    """What tunes models in quiet times. Not beside several fronts: the first hears nothing of the others' requests."""
    from forwardpass.server.plan import plan_fronts, planned_cores
    from forwardpass.server.tuning import Tuning

    if not settings.tune_after or plan_fronts(settings) > 1:
        return None
    program = [sys.executable, "-m", "forwardpass", "tune", "--json", "--cores", str(planned_cores(settings))]
    return Tuning(lambda path: [*program, str(path)], settings.tune_after)


def _intake(settings: Settings) -> Intake | None:
    """What keeps the entries of devices, where the settings say that any are taken in."""
    from forwardpass.server.intake import Intake

    return None if settings.intake is None else Intake(Path(settings.intake))


def _bulk(settings: Settings, url: str) -> Bulk | None:
    """What takes jobs and batches, where the settings say that any are taken."""
    from forwardpass.errors import InvalidSettings

    places = [settings.jobs] if isinstance(settings.jobs, str) else list(settings.jobs)
    if not places:
        return None
    folders = [place for place in places if "://" not in place]
    if len(folders) != 1:
        raise InvalidSettings(f"--jobs: give exactly one folder, and any prefixes of object stores; got {places}")
    if not Path(folders[0]).is_dir():
        raise InvalidSettings(f"--jobs {folders[0]}: there is no such folder; make it, or choose another")
    from forwardpass.jobs.service.openai import BatchService
    from forwardpass.jobs.service.service import JobService
    from forwardpass.server.http.jobs import Bulk

    jobs = JobService(Path(folders[0]), url, tuple(place for place in places if "://" in place))
    return Bulk(jobs, BatchService(jobs))


@contextlib.contextmanager
def _without_interrupt() -> Iterator[None]:
    """A process started in here never hears Ctrl-C or SIGTERM; this one hears it afterwards, and decides."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
