"""``forwardpass predict``: answers for some rows, from a model on disk or on a running server."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from forwardpass.cli.sources import Source, Table

Ask = Callable[["list[Any] | Table"], list[Any]]


def predict(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="An artifact or model folder; with --url a name, or NAME/VERSION.")
    ],
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT",
            help="Files: an image, .json (a V1 body or its list of rows), .csv with a header, .txt with a row per "
            "line; - for standard input. Without any, the model's own sample.",
        ),
    ] = None,
    url: Annotated[str | None, typer.Option(help="Ask a running server: http://127.0.0.1:8000")] = None,
    body: Annotated[str | None, typer.Option(help="Rows as JSON: a V1 body, or its list of rows.")] = None,
    text: Annotated[list[str] | None, typer.Option(help="A row for a model that takes one text; repeatable.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="INPUT=VALUE", help="One input of one row; repeatable.")
    ] = None,
    format: Annotated[
        str | None, typer.Option(metavar="json|csv|text|image", help="What the inputs are. [default: by suffix]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON per row.")] = False,
) -> None:
    """Run a model on some rows.

    A wrong input does not stop the others; the exit code is then 1.

    \b
    Examples:
      forwardpass predict examples/models/digits examples/models/digits/sample.png
      forwardpass predict examples/models/task-priority --text "Prepare quarterly report"
    """
    sources = [*_from_flags(body, text or [], set_ or []), *_from_files(inputs or [], format)]
    if not sources:
        sources = [_sample(model, url)]
    ask = _remote(model, url) if url else _local(model)
    answers, failed = _answer(sources, ask)
    _show(answers, as_json)
    if failed:
        raise typer.Exit(1)


def _from_flags(body: str | None, texts: list[str], pairs: list[str]) -> list[Callable[[], Source]]:
    from forwardpass.cli.sources import Source, Table, read_body

    found: list[Callable[[], Source]] = []
    if body is not None:
        found.append(lambda: Source("--body", read_body(body, "--body")))
    if texts:
        found.append(lambda: Source("--text", list(texts)))
    if pairs:
        split = [_pair(pair) for pair in pairs]
        found.append(lambda: Source("--set", Table([name for name, _ in split], [[value for _, value in split]])))
    return found


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise typer.BadParameter(f"{text!r} is not INPUT=VALUE", param_hint="--set")
    return name, value


def _from_files(names: list[str], given: str | None) -> list[Callable[[], Source]]:
    from functools import partial

    from forwardpass.cli.sources import Format, read_source

    if given is not None and given not in set(Format):
        raise typer.BadParameter(f"{given!r} is not one of {', '.join(Format)}", param_hint="--format")
    return [partial(read_source, name, Format(given) if given else None) for name in names]


def _sample(model: str, url: str | None) -> Callable[[], Source]:
    """The request that lies beside a model on disk."""
    from functools import partial

    from forwardpass.cli.sources import read_source
    from forwardpass.registry import find_model

    sample = None if url else find_model(Path(model)).sample()
    if sample is None:
        raise typer.BadParameter("give a file, --body, --text or --set", param_hint="INPUT")
    return partial(read_source, sample.file)


def _remote(model: str, url: str) -> Ask:
    from functools import partial

    from forwardpass.cli.client import Client

    return partial(Client(url).predict, model)


def _local(model: str) -> Ask:
    from forwardpass.cli.sources import Table
    from forwardpass.engine.engine import load
    from forwardpass.engine.rows import columns_from_instances, columns_from_texts, instances_from_columns

    engine = load(model)

    def ask(rows: list[Any] | Table) -> list[Any]:
        if isinstance(rows, Table):
            columns = columns_from_texts(rows.header, rows.rows, engine.signature)
        else:
            columns = columns_from_instances(rows, engine.signature)
        return instances_from_columns(engine.run(columns)[0], engine.signature.batched)

    return ask


def _answer(sources: Iterable[Callable[[], Source]], ask: Ask) -> tuple[list[tuple[str, Any]], bool]:
    """Predictions with the name of each row, and whether some source was wrong (said on stderr)."""
    from forwardpass.errors import InvalidInput

    answers: list[tuple[str, Any]] = []
    failed = False
    for read in sources:
        name = ""
        try:
            source = read()
            name = f"{source.name}: "
            predictions = ask(source.rows)
        except InvalidInput as error:
            typer.echo(f"forwardpass: {name}{error.message}", err=True)
            failed = True
            continue
        several = len(predictions) > 1
        answers += [(f"{source.name} {row}" if several else source.name, item) for row, item in enumerate(predictions)]
    return answers, failed


def _show(answers: list[tuple[str, Any]], as_json: bool) -> None:
    from forwardpass.cli.output import cell, say, say_json, table

    if as_json:
        for _, prediction in answers:
            say_json(prediction)
    elif answers:
        named = [item if isinstance(item, dict) else {"prediction": item} for _, item in answers]
        header = list(dict.fromkeys(name for item in named for name in item))
        rows = [
            [row, *(cell(item.get(name, "")) for name in header)] for (row, _), item in zip(answers, named, strict=True)
        ]
        say(table(["row", *header], rows))
