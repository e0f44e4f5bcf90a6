"""``forwardpass bench``: how fast a model answers, at which load, and what the batcher did for it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from forwardpass.cli.bench_report import Measured
    from forwardpass.cli.bench_server import Model
    from forwardpass.loadtest import Target

DOORS = ("v2-json", "v2-binary", "v1", "grpc", "local")


def bench(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="An artifact or model folder; with --url a name, or NAME/VERSION.")
    ],
    url: Annotated[str | None, typer.Option(help="Measure a running server: http://127.0.0.1:8000")] = None,
    grpc: Annotated[str, typer.Option(help="Where the running server's gRPC door is.")] = "127.0.0.1:8001",
    data: Annotated[
        str | None, typer.Option(metavar="FILE", help="Rows to send: .json, .jsonl, .csv, .txt or an image. [sample]")
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="Rows of each request.")] = 1,
    door: Annotated[
        list[str] | None,
        typer.Option(metavar="|".join(DOORS), help="Which door; repeatable, or with commas. [default: v2-json]"),
    ] = None,
    connections: Annotated[str, typer.Option(metavar="N,N", help="Closed loop: callers at a time.")] = "1,8,64",
    rate: Annotated[str, typer.Option(metavar="R,R", help="Open loop: requests per second.")] = "",
    load: Annotated[
        str, typer.Option(metavar="S,S", help="Open loop: share of the closed loop's best rate, like 0.7.")
    ] = "",
    arrivals: Annotated[str, typer.Option(metavar="poisson|even", help="Open loop: how requests are spread.")] = (
        "poisson"
    ),
    duration: Annotated[float, typer.Option(min=0.1, help="Seconds of each measurement.")] = 5.0,
    warmup: Annotated[float, typer.Option(min=0, help="Seconds before the first of each door.")] = 1.0,
    timeout: Annotated[float, typer.Option(min=0.001, help="Seconds after which an answer is an error.")] = 30.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw it: FILE.svg or FILE.html")] = None,
) -> None:
    """Measure how fast a model answers.

    A path is served by a server of its own meanwhile. Latencies of the open loop count from the
    time a request was planned for, so that a stall cannot hide. The exit code is 1 where answers
    failed; refusals (429, 503) are counted apart.

    \b
    Example:
      forwardpass bench examples/models/digits --connections 1,16 --load 0.7 --duration 0.5
    """
    from forwardpass.loadtest import Arrivals

    if arrivals not in set(Arrivals):
        raise typer.BadParameter(f"{arrivals!r} is not one of {', '.join(Arrivals)}", param_hint="--arrivals")
    if plot is not None and plot.suffix not in (".svg", ".html"):
        raise typer.BadParameter(f"{plot} must end with .svg or .html", param_hint="--plot")
    plan = Plan(
        [int(value) for value in _numbers(connections, "--connections", whole=True)],
        _numbers(rate, "--rate"),
        _numbers(load, "--load"),
        Arrivals(arrivals),
        duration,
        warmup,
        timeout,
    )
    doors = _doors(door or ["v2-json"], url)
    with _prepared(model, url, grpc, data, rows, doors) as (about, served, targets):
        measured: list[Measured] = []
        for target in targets:
            measured += _measure(target, served, plan)
        cost = served.statistics().get("cost") if served is not None else None
    _tell(about, measured, cost, as_json, plot)
    if any(item.result.failed for item in measured):
        raise typer.Exit(1)


@dataclass(frozen=True)
class Plan:
    """What is measured at each door: numbers of connections, then rates, then shares of the capacity."""

    connections: Sequence[int]
    rates: Sequence[float]
    shares: Sequence[float]
    arrivals: Any
    duration: float
    warmup: float
    timeout: float


def _numbers(text: str, option: str, *, whole: bool = False) -> list[float]:
    try:
        values = [float(int(item) if whole else float(item)) for item in text.split(",") if item.strip()]
    except ValueError:
        values = [0.0]
    if any(not 0 < value < 1e9 for value in values):
        kind = "whole numbers" if whole else "numbers"
        raise typer.BadParameter(f"{text!r}: {kind} above 0, with commas between them", param_hint=option)
    return values


def _doors(given: Sequence[str], url: str | None) -> list[str]:
    doors = list(dict.fromkeys(name.strip() for item in given for name in item.split(",")))
    for name in doors:
        if name not in DOORS:
            raise typer.BadParameter(f"{name!r} is not one of {', '.join(DOORS)}", param_hint="--door")
    if url is not None and "local" in doors:
        raise typer.BadParameter("local runs a model on disk, not one behind --url", param_hint="--door")
    return doors


# What is sent to where


@contextlib.contextmanager
def _prepared(
    model: str, url: str | None, grpc: str, data: str | None, rows: int, doors: Sequence[str]
) -> Iterator[tuple[str, Model | None, list[Target]]]:
    """In words, the served model (None: only the local engine), and a target for each door."""
    from forwardpass.cli.bench_requests import columns_of, in_requests, prepare, read_data, signature_of
    from forwardpass.cli.bench_server import connect, serving
    from forwardpass.engine.engine import load
    from forwardpass.loadtest import LocalTarget

    source = read_data(data) if data is not None else None
    with contextlib.ExitStack() as stack:
        served = None
        if url is not None:
            served = connect(url, model, grpc)
        elif set(doors) != {"local"}:
            served = stack.enter_context(serving(Path(model), grpc="grpc" in doors))
        engine = load(model) if "local" in doors else None
        signature = engine.signature if engine is not None else signature_of(served.facts if served else {})
        if source is None:
            source = served.sample() if served is not None else _sample(model)
        parts = in_requests(columns_of(source, signature), signature, rows)
        targets: list[Target] = []
        for door in doors:
            if door == "local" and engine is not None:
                targets.append(LocalTarget(door, parts, call=engine.run))
            elif served is not None:
                requests = prepare(door, served.url, served.path, parts, signature)
                targets.append(_target(door, requests, served))
        yield _about(model, served, url, rows if signature.batched else 1), served, targets


def _about(model: str, served: Model | None, url: str | None, rows: int) -> str:
    name = f"{served.name}, version {served.version}" if served is not None else model
    where = f" at {url}" if url else ""
    return f"{name}{where}: {rows} row{'s' * (rows != 1)} in each request"


def _target(door: str, requests: list[Any], served: Model) -> Target:
    from forwardpass.loadtest import GrpcTarget, HttpTarget

    if door == "grpc":
        return GrpcTarget(door, requests, address=served.grpc)
    return HttpTarget(door, requests, url=served.url)


def _sample(model: str) -> Any:
    from forwardpass.cli.sources import read_source
    from forwardpass.registry import find_model

    sample = find_model(Path(model)).sample()
    return read_source(sample.file) if sample is not None else None


# Measuring


def _measure(target: Target, served: Model | None, plan: Plan) -> list[Measured]:
    """All measurements of one door: closed loop, then open loop. Raises what a first request is told."""
    from forwardpass.loadtest import closed, opened

    _warm(target, plan)
    measured = [
        _watched(target, served, closed(target, count, plan.duration, timeout=plan.timeout), f"{count} connections")
        for count in plan.connections
    ]
    best = max((item.result.rate for item in measured), default=0.0)
    if plan.shares and not best:
        raise typer.BadParameter("is a share of what the closed loop reaches; give --connections", param_hint="--load")
    for rate, share in [*((rate, None) for rate in plan.rates), *((best * share, share) for share in plan.shares)]:
        sending = opened(target, rate, plan.duration, arrivals=plan.arrivals, timeout=plan.timeout)
        measured.append(_watched(target, served, sending, f"{rate:,.0f} requests/s", share))
    return measured


def _warm(target: Target, plan: Plan) -> None:
    """Send for a while, and stop here where nothing is answered as it should be."""
    from forwardpass.errors import BackendFailed, NotReady
    from forwardpass.loadtest import closed, run

    try:
        first = run(closed(target, max(plan.connections, default=1), max(plan.warmup, 0.01), timeout=plan.timeout))
    except OSError as error:
        raise NotReady(f"{target.door}: no connection: {error.strerror or error}") from None
    if not first.ok:
        raise BackendFailed(f"{target.door}: no request was answered; the first: {first.first_error or 'refused'}")


def _watched(target: Target, served: Model | None, sending: Any, words: str, share: float | None = None) -> Measured:
    """One measurement, with the batches that formed meanwhile."""
    from forwardpass.cli.bench_report import Measured
    from forwardpass.cli.bench_server import Batches
    from forwardpass.loadtest import run

    if sys.stderr.isatty():
        typer.echo(f"{target.door}, {words} …", err=True)
    before = served.batches() if served is not None else Batches()
    result = run(sending)
    after = served.batches() if served is not None else Batches()
    return Measured(result, after.since(before), share)


def _tell(about: str, measured: Sequence[Measured], cost: Any, as_json: bool, plot: Path | None) -> None:
    from forwardpass.cli.bench_report import report
    from forwardpass.cli.output import say, say_json
    from forwardpass.loadtest.plot import html, svg

    if plot is not None:
        runs = [(f"{item.result.door}, {item.load}", item.result) for item in measured]
        plot.write_text(html(about, runs) if plot.suffix == ".html" else svg(about, runs), encoding="utf-8")
    if as_json:
        say_json({"about": about, "measurements": [item.summary() for item in measured], "cost": cost})
    else:
        say(about)
        say(report(measured, cost))
