"""``forwardpass run``: a model over a whole data set, as a job that can be stopped and resumed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from forwardpass.jobs.progress import Snapshot


def run(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="An artifact or model folder; with --url also NAME or NAME/VERSION.")
    ],
    input: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            help="Files, folders or globs of Parquet, CSV, JSON Lines, Arrow, text or images; or URLs such as s3://…",
        ),
    ],
    output: Annotated[
        str,
        typer.Argument(
            metavar="OUTPUT",
            help="A folder for Parquet files, or one file: .parquet, .csv, .jsonl, .arrow. A name that ends in dot and "
            "letters is a file; end it in / for a folder. What the job keeps of its own goes to OUTPUT.job beside it.",
        ),
    ],
    where: Annotated[
        str, typer.Option(help="Only rows for which this is true: \"amount > 100 and kind == 'a'\".")
    ] = "",
    keep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMNS",
            help='Input columns to write beside the outputs, with commas; * for all, "" for none. '
            "[default: those the model does not take]",
        ),
    ] = None,
    map: Annotated[
        list[str] | None,
        typer.Option(metavar="INPUT=COLUMN", help="Which column an input takes; several, with commas, make a vector."),
    ] = None,
    format: Annotated[
        str | None, typer.Option(help="parquet, csv, jsonl, arrow, text or images. [default: by suffix]")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Worker processes. [default: one per core; 2 with --url]")
    ] = None,
    url: Annotated[
        str,
        typer.Option(metavar="URL", help="A running server that predicts, in the background of its live requests."),
    ] = "",
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="Where the workers run: on this machine, or on a Ray cluster.")
    ] = "local",
    address: Annotated[
        str,
        typer.Option(
            metavar="HOST:PORT",
            help="The Ray cluster; auto: one of this machine, local: one started for this run. "
            "[default: $RAY_ADDRESS, else auto, else local]",
        ),
    ] = "",
    threads: Annotated[int, typer.Option(min=1, help="Threads of each worker.")] = 1,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run that was stopped; begin, where none was.")
    ] = False,
    max_rejected: Annotated[
        str | None, typer.Option(metavar="N|P%", help="Stop once more rows were set aside. [default: never]")
    ] = None,
    batch_rows: Annotated[int | None, typer.Option(min=1, help="Rows run together. [default: by the model]")] = None,
    part_rows: Annotated[
        int | None, typer.Option(min=1, help="Rows of a part, and of an output file. [default: by the model]")
    ] = None,
    ledger: Annotated[Path | None, typer.Option(help="Where the ledger lies. [default: in OUTPUT.job]")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Tell progress as lines of JSON.")] = False,
) -> None:
    """Run a model over a data set.

    Rows that cannot be predicted are set aside in OUTPUT.job/rejected with the reason. Stopped in whatever
    way, --resume goes on and gives the same result. OUTPUT.job/manifest.json is written last.

    \b
    Examples:
      forwardpass run examples/models/task-priority examples/data/task-priority.csv scored.csv
      forwardpass run MODEL "s3://bucket/day=2026-*/*.parquet" s3://bucket/scored --keep id --resume
      forwardpass run /shared/MODEL s3://bucket/in s3://bucket/scored --engine ray --address head:6379
      forwardpass run fraud payments.parquet scored/ --url http://127.0.0.1:8000
    """
    from forwardpass.cli.run_progress import create_display
    from forwardpass.errors import ForwardpassError
    from forwardpass.jobs.job import Job
    from forwardpass.jobs.run import Options, Run

    job = Job(
        model=model,
        input=tuple(input),
        output=output,
        where=where,
        keep=None if keep is None else tuple(_names(keep)),
        map=dict(column_map(text) for text in map or []),
        format=format,
        threads=threads,
        batch_rows=batch_rows,
        part_rows=part_rows,
        url=url,
    )
    if address and engine != "ray":
        raise typer.BadParameter("a Ray cluster is used by --engine ray only", param_hint="--address")
    display = create_display(as_json)
    with stoppable() as stop:

        def progress(snapshot: Snapshot) -> None:
            stop.check()
            display.progress(snapshot)

        try:
            options = Options(workers, resume, ledger, _share(max_rejected), engine, address)
            display.done(Run(job, options, progress, display.note).run())
        except ForwardpassError as error:
            stop.check()
            display.failed(error)
            raise typer.Exit(1) from None


def _names(texts: list[str]) -> list[str]:
    return [name.strip() for text in texts for name in text.split(",") if name.strip()]


def column_map(text: str) -> tuple[str, tuple[str, ...]]:
    """An input and the columns that it is made of, from ``INPUT=COLUMN,COLUMN``."""
    name, equals, columns = text.partition("=")
    if not (name and equals and _names([columns])):
        raise typer.BadParameter(f"{text!r} is not INPUT=COLUMN", param_hint="--map")
    return name, tuple(_names([columns]))


def _share(text: str | None) -> float | None:
    """Rows, or below 1 a share of all."""
    if text is None:
        return None
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        number = -1.0
    percent = text.endswith("%")
    if number < 0 or (percent and number >= 100) or not (percent or number.is_integer()):
        raise typer.BadParameter(
            f"{text!r} is neither a number of rows nor a percentage such as 1%", param_hint="--max-rejected"
        )
    return number / 100 if percent else number


class Stop:
    """Whether SIGINT or SIGTERM came. What libraries make of the KeyboardInterrupt does not change it."""

    def __init__(self) -> None:
        self._came = False

    def come(self, *_: object) -> None:
        """The signals' handler."""
        self._came = True
        raise KeyboardInterrupt

    def check(self) -> None:
        """Raises ``KeyboardInterrupt`` where a signal came: Ray answers one with an error of its own at times."""
        if self._came:
            raise KeyboardInterrupt


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Ctrl-C and SIGTERM end it at once: what is committed stays, and the rest is done by --resume."""
    import signal

    stop = Stop()
    before = {signum: signal.signal(signum, stop.come) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    except KeyboardInterrupt:
        typer.echo("\nforwardpass: stopped; what is done is kept, and --resume goes on with it", err=True)
        raise typer.Exit(130) from None
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
