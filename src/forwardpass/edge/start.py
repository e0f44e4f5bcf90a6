"""Puts an agent together from its home, its settings and what it was started with, and runs it.

The order matters: the lock first, then the slot (the first bundle is unpacked here), then what may fail
for want of a library or a port, and only then the loop. Knows no command line.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from forwardpass.credentials import Token
from forwardpass.edge.agent import Agent
from forwardpass.edge.home import Home
from forwardpass.edge.inputs.create import create_inputs
from forwardpass.edge.install import Installed, check_handed, install
from forwardpass.edge.outputs.create import create_output
from forwardpass.edge.settings import AgentSettings, OutboxSettings, read_agent_settings
from forwardpass.edge.slots import Slots
from forwardpass.edge.status import bind_unix
from forwardpass.engine.blank import Blank
from forwardpass.engine.spawn import Spawner
from forwardpass.errors import InvalidModel, InvalidSettings, TimedOut
from forwardpass.server.composed import Composed, Composer, Composition, Defer

if TYPE_CHECKING:
    from forwardpass.edge.deferral import Deferral

log = logging.getLogger(__name__)

DEVICE_FILE = "device"  # in the home: the name of this device
MakeComposer = Callable[[Sequence[str], Path | None, Defer, str], Composer]


@dataclass(frozen=True)
class Order:
    """What the agent was started with; ``flags`` win over ``agent.yaml``."""

    home: Path
    bundle: Path | None
    trust: tuple[Path, ...]
    flags: dict[str, Any]


def run_agent(order: Order, blank: Blank | None, make_composer: MakeComposer | None) -> None:
    """Run until a signal says stop. Raises ``ForwardpassError`` where it cannot start."""
    home = Home(order.home)
    home.create()
    with ExitStack() as stack:
        with _usable(home):
            stack.enter_context(home.lock())
            settings = read_agent_settings(home.folder, order.flags)
            logging.basicConfig(level=settings.log_level.upper(), format="%(levelname)s %(message)s")
            logging.getLogger("tuf").setLevel(logging.WARNING)  # what it says besides is of no use to an owner
            slots = Slots(home)
            installed = install(home, slots, order.bundle, order.trust)
            tcp = stack.enter_context(listen(settings.port))
            unix = stack.enter_context(bind_unix(home.socket))
        np.seterr(over="raise")  # a number that does not fit its tensor's type is an error, not infinity
        asyncio.run(_main(home, settings, slots, installed, [tcp, unix], blank, make_composer))


def check(order: Order) -> AgentSettings:
    """The settings of a start with this order. Raises where it would be refused for them; changes nothing."""
    home = Home(order.home)
    settings = read_agent_settings(order.home, order.flags)
    check_handed(home, order.bundle, order.trust)
    if settings.updates is not None:
        from forwardpass.edge.updates.client import read_root, require_library

        require_library()
        read_root(home.updates)
    return settings


@contextmanager
def _usable(home: Home) -> Iterator[None]:
    """Raises ``InvalidSettings`` for what the system refuses there."""
    try:
        yield
    except OSError as error:
        what = f" ({error.filename})" if error.filename else ""
        raise InvalidSettings(f"the home {home.folder} cannot be used: {_reason(error)}{what}") from None


async def _main(
    home: Home,
    settings: AgentSettings,
    slots: Slots,
    installed: Installed,
    sockets: list[socket.socket],
    blank: Blank | None,
    make_composer: MakeComposer | None,
) -> None:
    host, port = sockets[0].getsockname()[:2]
    composer = None if make_composer is None else _Lazy(make_composer, settings, _token_file(home, settings))
    agent = Agent(home, settings, Spawner(settings.log_level, blank), composer)
    agent.address = f"http://{host}:{port}"
    _add_ways(agent)
    deferral = _add_outbox(agent)
    if composer is not None and deferral is not None:
        composer.defer = deferral.defer
    _add_updates(agent, slots, installed)

    golden = installed.first or not slots.proven(installed.slot)

    def ready() -> None:
        if golden:
            with _usable(home):
                slots.activate(installed.slot)
        log.info("%s answers at %s", installed.slot, agent.address)

    try:
        await agent.run(installed.slot, sockets, golden=golden, on_ready=ready)
    except (InvalidModel, TimedOut) as error:
        with _usable(home):
            raise error if installed.first else _given_way(slots, installed, error) from None


def _given_way(slots: Slots, installed: Installed, error: InvalidModel | TimedOut) -> InvalidModel:
    """What is active cannot be loaded here any more: the next start, which systemd sees to, uses another."""
    try:
        if installed.beside is None:
            other = slots.revert(error.message)
        else:
            other = installed.beside
            slots.activate(other, proven=False)
        return InvalidModel(f"{error.message}; from the next start on {other} is used")
    except InvalidModel as none:
        return InvalidModel(f"{error.message}; {none.message}")


class _Lazy:
    """A ``Composer`` that is made when the first model needs it: most devices have none that does."""

    def __init__(self, make: MakeComposer, settings: AgentSettings, token_file: Path | None) -> None:
        self.defer: Defer = lambda put_off: None
        self._make = make
        self._urls = [settings.cloud] if settings.cloud else []
        self._token_file = token_file
        self._settings = settings

    def __call__(self, composition: Composition) -> Composed:
        return self._composer(composition)

    @functools.cached_property
    def _composer(self) -> Composer:
        withheld = _withheld(self._settings)
        if withheld:
            log.warning("%s", withheld)
        return self._make(self._urls, self._token_file, lambda put_off: self.defer(put_off), withheld)


def _token_file(home: Home, settings: AgentSettings) -> Path | None:
    """What says to the cloud who asks."""
    return None if settings.cloud_token_file is None else (home.folder / settings.cloud_token_file).absolute()


def _withheld(settings: AgentSettings) -> str:
    """Why a cascade may not ask a server about rows; empty where it may."""
    from forwardpass.edge.outbox.privacy import Level, Privacy

    wanted = settings.outbox or OutboxSettings()
    if Privacy(Level(wanted.privacy)).escalations:
        return ""
    return (
        f"no row may leave this device: `outbox: {{privacy: {wanted.privacy}}}` in agent.yaml; "
        "with `unsure` or `all` a cascade may ask about rows"
    )


def listen(port: int) -> socket.socket:
    """On localhost alone. Raises ``InvalidSettings`` where the port is taken."""
    # asyncio sends at once, and waits for no acknowledgement before, only where a socket says that it is TCP
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", port))
    except (OSError, OverflowError) as error:
        sock.close()
        raise InvalidSettings(f"cannot listen on port {port}: {_reason(error)}; choose another --port") from None
    return sock


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


# What the settings ask for


def _add_ways(agent: Agent) -> None:
    settings, folder = agent.settings, agent.home.folder
    device = _device(agent) if settings.inputs else ""
    agent.inputs = create_inputs(settings.inputs, device, folder)
    agent.outputs = [create_output(entry, folder) for entry in settings.outputs]


def _add_outbox(agent: Agent) -> Deferral | None:
    """Where there is a cloud to tell, or the owner wants one kept. Gives what defers escalations."""
    settings = agent.settings
    if settings.cloud is None and settings.outbox is None:
        return None
    from forwardpass.edge.deferral import Deferral
    from forwardpass.edge.outbox.outbox import Outbox
    from forwardpass.edge.outbox.privacy import Level, Privacy
    from forwardpass.edge.outbox.upload import Uploader
    from forwardpass.edge.services import OutboxService

    wanted = settings.outbox or OutboxSettings()
    privacy = Privacy(Level(wanted.privacy), wanted.usage, wanted.unsure_below)
    outbox = Outbox(agent.home.outbox, wanted.most_bytes, privacy)
    uploader = None
    if settings.cloud is not None:
        token = Token(file=_token_file(agent.home, settings))
        uploader = Uploader(outbox, settings.cloud, _device(agent), headers=token.renew, every=wanted.upload_every)
    deferral = Deferral(agent.dataplane, agent.outputs, outbox)
    if uploader is not None:
        uploader.on_upload = deferral.contact
    service = OutboxService(outbox, uploader, deferral)
    agent.on_models = service.contact
    agent.services.append(service)
    agent.reactions.follow(service.follow)
    agent.dataplane.recorder.add(outbox)  # usage by records: what follows predictions may drop some, usage never
    return deferral


def _add_updates(agent: Agent, slots: Slots, installed: Installed) -> None:
    """Where there is another bundle to try, or to say why not, or a place to look for one."""
    settings = agent.settings
    if settings.updates is None and installed.beside is None and not installed.error:
        return
    from forwardpass.edge.services import UpdateService
    from forwardpass.edge.trials import Trials
    from forwardpass.edge.updates.updater import Updater

    trials = Trials(agent.home, slots, agent.deployment.switch)
    updater = None
    if settings.updates is not None:
        updater = Updater(agent.home, slots, trials, settings.updates, settings.channel, settings.check_every)
        agent.on_check = updater.check_now
    agent.services.append(UpdateService(trials, installed, updater))


def _device(agent: Agent) -> str:
    from forwardpass.edge.outbox.upload import read_device_id

    return read_device_id(agent.home.folder / DEVICE_FILE)
