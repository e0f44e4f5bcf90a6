"""``forwardpass import``: a trained model becomes a model folder, compared row by row with the original."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from forwardpass.optimize.convert import ImportReport


def import_model(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="The trained model: .skops, .joblib, .pkl, .xgboost.json, .ubj, LightGBM's .txt, .pt2, or a Python "
            "reference package.module:object.",
        ),
    ],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The model folder to write; must not be there.")],
    name: Annotated[str | None, typer.Option(help="The model's name: writes FOLDER/NAME. [default: FOLDER's]")] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Rows to compare on: .csv with a header, .npz, .npy. [default: drawn from what the model has learnt]",
        ),
    ] = None,
    sample: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Sample inputs of a PyTorch network, by name: .npz.")
    ] = None,
    native: Annotated[
        bool, typer.Option("--native", help="Keep the library's own format instead of converting to ONNX.")
    ] = False,
    tolerance: Annotated[int, typer.Option(help="How many rows may be answered differently.", min=0)] = 0,
    allow_code: Annotated[
        bool, typer.Option("--allow-code", help="Load SOURCE even where loading it runs code: pickles, references.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one line of JSON.")] = False,
) -> None:
    """Turn a trained model into a model folder.

    Converts it to ONNX and compares the answers row by row with the original's. Where labels differ,
    or probabilities by more than 0.0001, nothing is written and the exit code is 1.

    \b
    Examples:
      forwardpass import churn.skops models/churn --data heldout.csv
      forwardpass import prices.xgboost.json models/prices
      forwardpass import network.pt2 models/network
      forwardpass import training.churn:model models/churn --allow-code
      forwardpass import forest.joblib models/forest --allow-code --native
    """
    from forwardpass.optimize.convert.importing import import_trained
    from forwardpass.optimize.convert.sources import load_trained, read_table

    target = folder / name if name else folder
    rows = read_table(data) if data else None
    trained = load_trained(source, allow_code, read_table(sample) if sample else None)
    if not as_json:
        typer.echo(f"loaded {trained.title}", err=True)
    report = import_trained(trained, target, rows, native, tolerance)
    if as_json:
        from dataclasses import asdict

        from forwardpass.cli.output import say_json

        say_json(asdict(report))
    else:
        _tell(report)


def _tell(report: ImportReport) -> None:
    from forwardpass.cli.output import cell, say, table, title

    found = report.comparison
    say(f"{title(report.folder)}  {report.artifact} from {report.title}")
    say(f"compared on {found.rows} rows, {found.source}")
    if found.equal_labels is not None:
        ties = f", {found.ties} of them ties" if found.ties else ""
        say(f"labels: {found.equal_labels:.2%} equal, {found.wrong_labels + found.ties} differ{ties}")
    for name, largest in found.largest.items():
        say(f"{name}: at most {largest:.2g} apart")
    if found.worst:
        lines = [
            [str(item.row), item.output, cell(item.original), cell(item.converted), "yes" if item.rounding else "no"]
            for item in found.worst
        ]
        say(table(["row", "output", "original", "converted", "only by rounding to float32"], lines))
    say(f"serve it: forwardpass serve {report.folder}")
