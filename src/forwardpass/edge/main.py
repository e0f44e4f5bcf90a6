"""The command line of a device: ``forwardpass agent``, ``agent status``, ``agent --systemd``.

argparse alone, because a device has no other library for it, and because the worker is forked as soon as what
both need is imported: the rest they import at the same time. Composed models come from whoever hands in
``make_composer``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from forwardpass import __version__
from forwardpass.edge.distribution import HERE

if TYPE_CHECKING:
    from forwardpass.edge.start import MakeComposer, Order

HOME = Path("/var/lib/forwardpass")
OF_THE_CALL = {"action", "home", "systemd", "json"}  # no flags of a unit: they say what is done now, and for which home
LEVELS = ("debug", "info", "warning", "error")
EXAMPLE = f"""\
example:
  {HERE.program} --home /var/lib/forwardpass --bundle digits-1.bundle --trust bundle.pub
  curl -d '{{"instances": [...]}}' http://127.0.0.1:8100/v1/models/digits:predict
  {HERE.program} status --home /var/lib/forwardpass
  {HERE.program} --systemd --home /var/lib/forwardpass > /etc/systemd/system/forwardpass-agent.service
"""


class _Help(argparse.RawDescriptionHelpFormatter):
    """The same text whatever the terminal."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=100)


def create_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=HERE.program,
        description="Run a model on this device, with or without a network. Ctrl-C finishes what is under way.",
        epilog=EXAMPLE,
        formatter_class=_Help,
    )
    add = parser.add_argument
    add("action", nargs="?", choices=["run", "status", "check"], default="run",
        help="run (default); status: how the agent of --home is; check: have it look for an update now")  # fmt: skip
    add("--home", type=Path, default=HOME, metavar="DIR", help=f"where the agent keeps all it keeps (default: {HOME})")
    add("--bundle", type=Path, metavar="FILE", help="install this bundle first, unless it runs already")
    add("--trust", type=Path, action="append", default=[], metavar="FILE",
        help="trust bundles that this public key signed, from now on")  # fmt: skip
    add("--updates", metavar="URL", help="where `forwardpass publish` puts new versions")
    add("--cloud", metavar="URL", help="the server that takes the outbox and answers for remote models")
    add("--port", type=int, metavar="N", help="HTTP port on localhost; 0 takes a free one (default: 8100)")
    add("--log-level", metavar="LEVEL", choices=LEVELS, help="debug, info, warning or error (default: info)")
    add("--systemd", action="store_true", help="print a unit file for systemd that runs the agent so, and end")
    add("--version", action="version", version=f"forwardpass {__version__}")
    add("--json", action="store_true", help="with status: print it as a line of JSON")
    return parser


def main(argv: Sequence[str] | None = None, make_composer: MakeComposer | None = None) -> int:
    """Run the command line; the exit code. An error of ours is one line on stderr and exit code 1."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["agent"]:
        words = words[1:]
    given = create_parser().parse_args(words)
    try:
        if given.systemd:
            return _print_unit(given)
        if given.action == "run":
            return _run(given, make_composer)
        return _check(given) if given.action == "check" else _status(given)
    except BrokenPipeError:  # nobody reads on
        return 1
    except Exception as error:
        from forwardpass.errors import ForwardpassError

        if not isinstance(error, ForwardpassError):
            raise
        print(f"forwardpass: {' '.join(error.message.split())}", file=sys.stderr)  # noqa: T201
        return 1


def _run(given: argparse.Namespace, make_composer: MakeComposer | None) -> int:
    from forwardpass.engine.blank import fork_blank

    there = given.bundle is not None or (given.home / "state.json").exists()
    blank = fork_blank() if there else None
    try:
        from forwardpass.edge.start import run_agent

        run_agent(_order(given), blank, make_composer)
    finally:
        if blank is not None:
            blank.end()
    return 0


def _status(given: argparse.Namespace) -> int:
    import json

    from forwardpass.edge.home import Home
    from forwardpass.edge.status import ask
    from forwardpass.edge.status_text import show

    status = ask(Home(given.home).socket)
    print(json.dumps(status) if given.json else show(status))  # noqa: T201
    return 0


def _check(given: argparse.Namespace) -> int:
    from forwardpass.edge.home import Home
    from forwardpass.edge.status import ask

    ask(Home(given.home).socket, "POST", "/check")
    print(f"it looks now; what comes of it: {HERE.program} status --home {given.home}")  # noqa: T201
    return 0


def _print_unit(given: argparse.Namespace) -> int:
    from forwardpass.edge.start import check
    from forwardpass.edge.systemd import unit
    from forwardpass.errors import InvalidSettings

    try:
        settings = check(_order(given))
    except PermissionError:
        raise InvalidSettings(f"{given.home} cannot be looked at: run this as its owner, or as root") from None
    print(unit(given.home, list(_flags(given)), settings.drain_timeout), end="")  # noqa: T201
    return 0


def _order(given: argparse.Namespace) -> Order:
    from forwardpass.edge.start import Order

    flags = {name: getattr(given, name) for name in ("port", "updates", "cloud", "log_level")}
    return Order(given.home, given.bundle, tuple(given.trust), flags)


def _flags(given: argparse.Namespace) -> Iterator[str]:
    """All that was given and says how the agent runs, as words again; files wherever it is started from."""
    for name, value in vars(given).items():
        values = value if isinstance(value, list) else [value]
        for item in values if name not in OF_THE_CALL else ():
            if item is not None:
                yield f"--{name.replace('_', '-')}"
                yield str(item.absolute() if isinstance(item, Path) else item)
