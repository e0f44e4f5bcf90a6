"""``forwardpass bundle``: a model folder to one signed file that a device checks and runs."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from forwardpass.edge.build import Built


def bundle(
    model: Annotated[
        str, typer.Argument(metavar="MODEL[@VERSION]", help="A model folder, or an artifact; the newest version.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="The bundle, or its folder. [default: NAME-VERSION.bundle]"
        ),
    ] = None,
    target: Annotated[
        str, typer.Option(help="The device: linux-x86_64, linux-aarch64 or jetson.", show_default=True)
    ] = "linux-x86_64",
    key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Private key to sign with. [default: your own, made the first time]"),
    ] = None,
    rows: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="JSON with `instances`, for the golden rows. [default: the model's sample]"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
) -> None:
    """Pack a model into one signed file for a device.

    The artifact, its pipeline, labels and limits; a dozen golden rows with their answers, which a
    device must give before it uses the bundle; and a digest of every file. The same model gives
    the same bytes. `forwardpass inspect FILE` shows and verifies it.

    \b
    Examples:
      forwardpass bundle examples/models/digits -o digits.bundle
      forwardpass bundle models/churn@3 --target linux-aarch64 --rows heldout.json
    """
    from forwardpass.edge.build import build
    from forwardpass.edge.signing import read_private_key

    file = key or _own_key()
    path, version = _split(model)
    with redirect_stdout(sys.stderr):  # what a model's own steps print is no answer of this command
        built = build(path, read_private_key(file), output, version=version, target=target, rows=_read_rows(rows))
    _tell(built, file, as_json)


def _split(model: str) -> tuple[Path, str | None]:
    """The path and the version behind its last ``@``; a path that is there is taken as it is."""
    path, at, version = model.rpartition("@")
    return (Path(path), version) if at and version and not Path(model).exists() else (Path(model), None)


def _own_key() -> Path:
    """The key of whoever asks; made, and said so, where there is none yet."""
    from forwardpass.edge import signing

    file = signing.default_folder() / "bundle.key"
    if not file.exists():
        name = signing.create_key(file)
        typer.echo(f"made the key {name}: {file} (keep it to yourself: who has it can sign for your devices)", err=True)
        typer.echo(
            f"  devices trust it by its public half, {signing.public_file(file)}: copy that into keys/ of an agent's "
            "home, or name it when the agent first starts (--trust)",
            err=True,
        )
    return file


def _read_rows(file: Path | None) -> list[Any]:
    """V1 instances of a JSON file: ``{"instances": […]}`` or the list alone. Raises ``InvalidInput``."""
    from forwardpass.errors import InvalidInput

    if file is None:
        return []
    try:
        read = json.loads(file.read_text(encoding="utf-8"))
    except OSError as reason:
        raise InvalidInput(f"{file}: cannot be read: {reason.strerror}") from None
    except ValueError as reason:
        raise InvalidInput(f"{file}: is not JSON: {reason}") from None
    rows = read.get("instances") if isinstance(read, dict) else read
    if not isinstance(rows, list) or not rows:
        raise InvalidInput(f'{file}: expected {{"instances": [one entry per row]}}, with at least one')
    return rows


def _tell(built: Built, key: Path, as_json: bool) -> None:
    from forwardpass.cli.output import say, say_json, title
    from forwardpass.cli.portrait import size_in_words
    from forwardpass.edge import signing

    manifest, size = built.manifest, built.path.stat().st_size
    name = signing.key_id(signing.read_private_key(key).public_key())
    if as_json:
        facts = {"bundle": str(built.path), "name": manifest.name, "version": manifest.version, "bytes": size}
        say_json({**facts, "target": manifest.target, "golden": built.golden, "key": name})
        return
    what = f"{manifest.name} {manifest.version} for {manifest.target}"
    say(f"{title(str(built.path))}  {what}, {size_in_words(size)}, {len(manifest.files)} files")
    say(f"signed with {key} ({name}), {built.golden} golden rows; look at it: forwardpass inspect {built.path}")
