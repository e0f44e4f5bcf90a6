"""``forwardpass publish``: a bundle to files from which devices update themselves."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from datetime import timedelta

    from forwardpass.edge.updates.repository import Published, Repository

UNITS = {"h": 1 / 24, "d": 1.0, "w": 7.0}  # in days


class Keys(StrEnum):
    """Which keys are replaced; ``online`` are those that every publishing needs."""

    ONLINE = "online"
    ROOT = "root"
    ALL = "all"

    @property
    def roles(self) -> tuple[str, ...]:
        online, root = ("targets", "snapshot", "timestamp"), ("root",)
        return {Keys.ONLINE: online, Keys.ROOT: root, Keys.ALL: root + online}[self]


def publish(
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Folder that is served; made the first time.")],
    bundle: Annotated[
        Path | None, typer.Argument(metavar="[BUNDLE]", help="What `forwardpass bundle` made.", show_default=False)
    ] = None,
    keys: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The publisher's keys. [default: forwardpass/publish in the configuration]"),
    ] = None,
    expires: Annotated[
        str, typer.Option(metavar="TIME", help="For how long devices may believe it: hours, days or weeks.")
    ] = "30d",
    channel: Annotated[str, typer.Option(help="Which devices: those that follow this channel.")] = "stable",
    force: Annotated[bool, typer.Option("--force", help="Publish a version that is not newer, too.")] = False,
    refresh: Annotated[bool, typer.Option("--refresh", help="Publish nothing new; sign again what expires.")] = False,
    new_keys: Annotated[
        Keys | None,
        typer.Option(help="Publish nothing new; replace keys that were lost or stolen.", show_default=False),
    ] = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Publish nothing new; remove what newer releases have replaced.")
    ] = False,
    keep: Annotated[
        int, typer.Option(metavar="N", min=1, help="With --prune: releases to keep of each model, target and channel.")
    ] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
) -> None:
    """Publish a bundle for devices to update themselves to.

    Writes plain files, signed by The Update Framework, that any web server can serve. Keys are made the first time,
    in a folder of their own: whoever has them decides what devices run. Sign again before the time is up, with
    --refresh: devices believe nothing that has expired.

    \b
    Example:
      forwardpass publish digits-2.bundle --to updates/
    """
    from forwardpass.edge.updates.client import require_library
    from forwardpass.errors import InvalidInput

    lasting = parse_time(expires)
    if [bundle is not None, refresh, new_keys is not None, prune].count(True) != 1:
        raise InvalidInput("give a bundle, or one of --refresh, --new-keys and --prune")
    require_library()
    from forwardpass.edge.updates.repository import Repository
    from forwardpass.edge.updates.signers import Signers, default_keys

    signers = Signers(keys or default_keys())
    repository = Repository(to, signers)
    first = not repository.first_root.exists()
    if prune:
        _prune(repository, keep, as_json)
        return
    if bundle is None:
        _sign_again(repository, new_keys.roles if new_keys else (), lasting, as_json)
        return
    made = first and signers.create()
    published = repository.publish(bundle, channel, lasting, force)
    if as_json:
        _say_json(published)
        return
    _say(published, to)
    if made:
        typer.echo(f"keys     made in {signers.folder}: keep a copy of them in a safe place, and root.key nowhere else")
    if first:
        _say_first(repository, to, bundle)


def parse_time(text: str) -> timedelta:
    """A time such as ``12h``, ``30d`` or ``2w``. Raises ``InvalidInput``."""
    from datetime import timedelta

    from forwardpass.errors import InvalidInput

    number, unit = text[:-1], text[-1:]
    if not (number.isascii() and number.isdigit()) or unit not in UNITS or not 0 < int(number) * UNITS[unit] <= 36500:
        raise InvalidInput(f"--expires {text!r} is no time: give a number and h, d or w, such as 30d")
    return timedelta(days=int(number) * UNITS[unit])


def _say(published: Published, to: Path) -> None:
    release = published.release
    lines = [
        f"published {release} on {published.path.split('/')[0]}: {release.size:,} bytes in {published.chunks} chunks, "
        f"{published.new_bytes:,} bytes of them new",
        f"expires  {published.expires:%Y-%m-%d %H:%M} UTC; before that: forwardpass publish --refresh --to {to}",
    ]
    if published.older:
        lines.append("older    than what was published before: devices that run that refuse this one")
    typer.echo("\n".join(lines))


def _say_first(repository: Repository, to: Path, bundle: Path) -> None:
    import shlex
    import socket

    from forwardpass.edge.main import HOME
    from forwardpass.edge.signing import default_folder

    root, name = repository.first_root, shlex.quote(bundle.name)
    typer.echo(
        f"serve    {to} with any web server, such as: python -m http.server --directory {shlex.quote(str(to))} 8200\n"
        f"devices  get three files by a way you trust: {root}, a first bundle such as {bundle}, and\n"
        f"         the public half of the key that signed it (of your own: {default_folder() / 'bundle.pub'}); there:\n"
        f"         mkdir -p {HOME}/updates && cp {root.name} {HOME}/updates/root.json\n"
        f"         forwardpass agent --home {HOME} --bundle {name} --trust bundle.pub "
        f"--updates http://{socket.gethostname()}:8200"
    )


def _say_json(published: Published) -> None:
    from forwardpass.cli.output import say_json

    release = published.release
    facts = {name: getattr(release, name) for name in ("name", "model", "version", "target", "size", "sha256")}
    more = {"path": published.path, "chunks": published.chunks, "new_bytes": published.new_bytes}
    say_json({**facts, **more, "older": published.older, "expires": published.expires.isoformat()})


def _sign_again(repository: Repository, roles: tuple[str, ...], lasting: timedelta, as_json: bool) -> None:
    from forwardpass.cli.output import say_json

    expires = repository.refresh(lasting, roles)
    if as_json:
        say_json({"expires": expires.isoformat(), "new_keys": roles})
        return
    if roles:
        typer.echo(f"keys     of {', '.join(roles)} replaced: keep a copy of the new ones in a safe place")
    typer.echo(f"signed again; expires {expires:%Y-%m-%d %H:%M} UTC")


def _prune(repository: Repository, keep: int, as_json: bool) -> None:
    from forwardpass.cli.output import say_json

    pruned = repository.prune(keep)
    if as_json:
        say_json({"files": pruned.files, "bytes": pruned.size})
    else:
        typer.echo(f"removed  {pruned.files:,} files, {pruned.size:,} bytes")
