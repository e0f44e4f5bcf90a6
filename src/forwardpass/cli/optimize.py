"""``forwardpass optimize``: a faster version of a model, where one passes the gate."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from forwardpass.optimize.optimize import Progress
    from forwardpass.optimize.place import Place
    from forwardpass.optimize.search import Search

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def optimize(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="An artifact or model folder; its newest version.")],
    data: Annotated[
        list[str],
        typer.Option(
            metavar="HELDOUT",
            help="Labelled rows that the model was not trained on: files, folders or globs as `run` reads them.",
        ),
    ],
    label: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="The column with the right answers. [default: label or target]"),
    ] = None,
    output: Annotated[
        str | None, typer.Option(metavar="NAME", help="The output that is judged. [default: the first that fits]")
    ] = None,
    metric: Annotated[
        Literal["accuracy", "f1", "auc", "log_loss", "mae", "rmse", "r2"] | None,
        typer.Option(help="What answers are judged by. [default: by the output]"),
    ] = None,
    max_drop: Annotated[
        str,
        typer.Option(
            metavar="P%",
            help="How much may be lost: points of accuracy, f1, auc, r2; percent of mae, rmse, log_loss.",
        ),
    ] = "0.5%",
    objective: Annotated[
        Literal["latency", "throughput", "size", "cost"], typer.Option(help="What the model shall be better in.")
    ] = "throughput",
    calibration_rows: Annotated[
        int | None,
        typer.Option(min=0, help="Rows for calibration, which are not held out. [default: a tenth, at most 256]"),
    ] = None,
    map: Annotated[
        list[str] | None,
        typer.Option(metavar="INPUT=COLUMN", help="Which column an input takes; several, with commas, make a vector."),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(metavar="FILE.py", help="The PyTorch model and its training data, to prune and distil."),
    ] = None,
    target: Annotated[
        str,
        typer.Option(
            metavar="[USER@]HOST[:PORT]",
            help="Where to measure: on this machine (local), or over SSH on one that has the same forwardpass.",
        ),
    ] = "local",
    target_command: Annotated[
        str, typer.Option(metavar="SHELL", help="What starts Python on the target, such as /opt/fp/.venv/bin/python.")
    ] = "python3",
    budget: Annotated[
        str, typer.Option(metavar="TIME", help="No candidate is begun after this long: 90s, 10m, 2h.")
    ] = "10m",
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads to measure with. [default: by model.yaml, else all cores]")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where the winner goes. [default: the next version, else MODEL-optimized]"),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a search that was stopped; begin, where none was.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Tell progress and the result as lines of JSON.")] = False,
) -> None:
    """Make a model faster, behind a gate that is measured.

    Tries engines, precisions, quantisation and more, each on the target and on held-out rows. The best that is sure
    to lose no more than allowed becomes a new version; where none passes, nothing changes. OUT.optimize has the report.

    \b
    Examples:
      forwardpass optimize models/digits --data held-out/ --max-drop 0.5%
      forwardpass optimize model.onnx --data test.csv --label price --metric rmse --objective latency
      forwardpass optimize models/digits --data held-out/ --target pi@edge --target-command venv/bin/python
    """
    from forwardpass.cli.run import column_map, stoppable
    from forwardpass.errors import ForwardpassError
    from forwardpass.optimize.optimize import Optimizer
    from forwardpass.optimize.prepare import Options
    from forwardpass.optimize.targets import create_target

    options = Options(
        data=tuple(data),
        label=label,
        output=output,
        metric=metric,
        max_drop=_share(max_drop),
        objective=objective,
        calibration_rows=calibration_rows,
        inputs=dict(column_map(text) for text in map or []),
        source=source,
        budget=_duration(budget),
        threads=threads,
        out=out,
        resume=resume,
    )
    display = _Events() if as_json else _Lines()
    with stoppable() as stop:
        try:
            where = create_target(target, target_command)
            optimizer = Optimizer(model, options, on_progress=display.progress, on_note=display.note, target=where)
            display.done(optimizer.run(), optimizer.place)
        except ForwardpassError as error:
            stop.check()
            display.failed(error.message)
            raise typer.Exit(1) from None


class _Lines:
    """For people: a line for each candidate on stderr, and the result on stdout."""

    def progress(self, progress: Progress) -> None:
        from forwardpass.cli.run_progress import duration

        left = "" if progress.remaining is None else f" · {duration(progress.remaining)} to go"
        where = f"[{min(progress.done + (progress.entry is None), progress.total)}/{progress.total}{left}]"
        if progress.entry is None:
            typer.echo(f"{where} {progress.title} …", err=True)
        else:
            kind = "passed" if progress.entry.passed else "rejected"
            reason = progress.entry.reason
            told = reason if progress.entry.failure else f"{kind}: {reason}"
            typer.echo(f"{where} {progress.title}: {told}", err=True)

    def note(self, text: str) -> None:
        typer.echo(text, err=True)

    def done(self, search: Search, place: Place) -> None:
        from forwardpass.cli.output import say
        from forwardpass.optimize.report import verdict

        say(verdict(search))
        say(f"Report: {place.reports[0]}")

    def failed(self, message: str) -> None:
        typer.echo(f"forwardpass: {' '.join(message.split())}", err=True)


class _Events(_Lines):
    """For programs: a line of JSON each."""

    def progress(self, progress: Progress) -> None:
        _write("progress", progress)

    def note(self, text: str) -> None:
        _write("note", text)

    def done(self, search: Search, place: Place) -> None:
        _write("done", search)

    def failed(self, message: str) -> None:
        _write("failed", message)


def _write(event: str, value: object) -> None:
    import msgspec

    sys.stdout.write(msgspec.json.encode({"event": event, event: value}).decode() + "\n")
    sys.stdout.flush()


def _share(text: str) -> float:
    try:
        return float(text.removesuffix("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no percentage such as 0.5%", param_hint="--max-drop") from None


def _duration(text: str) -> float:
    unit = _UNITS.get(text[-1:], 0.0)
    try:
        value = float(text[:-1] if unit else text) * (unit or 1.0)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e7:
        raise typer.BadParameter(f"{text!r} is no time such as 90s, 10m or 2h", param_hint="--budget")
    return value
