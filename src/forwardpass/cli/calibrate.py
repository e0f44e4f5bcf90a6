"""``forwardpass calibrate``: when a small model should ask a large one, and what that costs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from forwardpass.optimize.cascade.results import Aim, Calibration
    from forwardpass.optimize.cascade.running import Member
    from forwardpass.registry import ModelFiles

_LARGE = "large"  # `--target-accuracy large-0.3%`: by what the large model reaches


def calibrate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="The small model; its newest version.")],
    data: Annotated[
        list[str],
        typer.Option(
            metavar="HELDOUT",
            help="Labelled rows that neither model was trained on: files, folders or globs as `run` reads them.",
        ),
    ],
    against: Annotated[
        Path,
        typer.Option(
            metavar="LARGE", help="The model that is asked when the small one is unsure, here or elsewhere (`remote:`)."
        ),
    ],
    target_accuracy: Annotated[
        str | None,
        typer.Option(metavar="A", help="Ask as little as reaches this: 98%, or large-0.3% for points below LARGE."),
    ] = None,
    max_escalation: Annotated[
        str | None, typer.Option(metavar="P", help="Ask at most this share of rows, such as 20%.")
    ] = None,
    price: Annotated[float, typer.Option(metavar="N", help="What one escalated row costs, in your money.")] = 0.0,
    label: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="The column with the right answers. [default: label or target]"),
    ] = None,
    answer: Annotated[
        str | None, typer.Option(metavar="NAME", help="The output that is judged. [default: the first that fits]")
    ] = None,
    confidence: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="MODEL's output with the probability of each class. [default: the one there is]"
        ),
    ] = None,
    map: Annotated[
        list[str] | None,
        typer.Option(metavar="INPUT=COLUMN", help="Which column an input takes; several, with commas, make a vector."),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of each model. [default: by model.yaml, else all cores]")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write the cascade there, to be served beside both models.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all figures as JSON.")] = False,
) -> None:
    """Find when a small model should ask a large one.

    Fits the confidence of the small model and picks a threshold on one half of the rows; measures on the other half
    what the cascade gives: accuracy, rows escalated, latency and money, each with its 95 % interval. A report with the
    whole curve goes to FOLDER.calibrate, or MODEL.calibrate without --output.

    \b
    Examples:
      forwardpass calibrate models/tiny --against models/large --data rows/ --max-escalation 20% --output models/both
      forwardpass calibrate tiny.onnx --against large.onnx --data test.csv --target-accuracy 98% --price 0.002
    """
    from forwardpass.cli.run import column_map
    from forwardpass.errors import BackendFailed
    from forwardpass.optimize.cascade import report
    from forwardpass.optimize.cascade.calibrate import Request
    from forwardpass.optimize.cascade.calibrate import calibrate as run
    from forwardpass.optimize.cascade.folder import beside, write_cascade

    request = Request(
        small=model,
        large=against,
        data=tuple(data),
        aim=_aim(target_accuracy, max_escalation),
        label=label,
        answer=answer,
        confidence=confidence,
        price=price,
        inputs=dict(column_map(text) for text in map or []),
        threads=threads,
        out=output,
    )
    found = run(request, on_note=lambda text: typer.echo(text, err=True), open_remote=_open_remote)
    try:
        files = report.write(found, beside(output or model))
        if output is not None:
            write_cascade(found, output)
    except OSError as error:
        raise BackendFailed(f"{error.filename}: cannot be written: {error.strerror}") from error
    if as_json:
        _print_json(found)
    else:
        _print(found, files[0], output)


def _open_remote(files: ModelFiles) -> Member:
    from forwardpass.gateway.client import RemoteClient

    return RemoteClient(files)


def _print(found: Calibration, page: Path, output: Path | None) -> None:
    from forwardpass.cli.output import say, table
    from forwardpass.optimize.cascade import report

    say(table(report.HEADER, report.table(found)))
    say()
    say(report.verdict(found))
    say(f"Report: {page}")
    if output is not None:
        say(f"Cascade: {output}; serve it in one folder with {found.small} and {found.large}")


def _print_json(found: Calibration) -> None:
    import msgspec

    sys.stdout.write(msgspec.json.encode(found).decode() + "\n")


def _aim(accuracy: str | None, escalation: str | None) -> Aim:
    from forwardpass.optimize.cascade.results import Aim

    if (accuracy is None) == (escalation is None):
        raise typer.BadParameter(
            "say what the threshold is for: either an accuracy or a share of rows",
            param_hint="--target-accuracy, --max-escalation",
        )
    if escalation is not None:
        return Aim(escalated=_share(escalation, "--max-escalation"))
    assert accuracy is not None
    if accuracy.startswith(_LARGE):
        less = accuracy.removeprefix(_LARGE)
        return Aim(below=_share(less.removeprefix("-"), "--target-accuracy") if less else 0.0)
    return Aim(accuracy=_share(accuracy, "--target-accuracy"))


def _share(text: str, option: str) -> float:
    try:
        return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no share such as 20% or 0.2", param_hint=option) from None
