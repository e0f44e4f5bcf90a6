"""Puts an agent together from its home, its settings and what it was started with, and runs it.

The order matters: the lock first, then the slot (the first bundle is unpacked here), then what may fail
for want of a library or a port, and only then the loop. Knows no command line.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import shutil
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from forwardpass.edge import signing
from forwardpass.edge.agent import Agent
from forwardpass.edge.bundle import read_manifest, unpack
from forwardpass.edge.home import Home
from forwardpass.edge.inputs.create import create_input
from forwardpass.edge.manifest import Manifest, encode_manifest
from forwardpass.edge.outputs.create import create_output
from forwardpass.edge.settings import AgentSettings, OutboxSettings, read_agent_settings
from forwardpass.edge.slots import Slot, Slots
from forwardpass.edge.status import bind_unix
from forwardpass.edge.versions import version_order
from forwardpass.engine.blank import Blank
from forwardpass.engine.spawn import Spawner
from forwardpass.errors import InvalidModel, InvalidSettings
from forwardpass.server.composed import Composed, Composer, Composition
from forwardpass.types import Columns

if TYPE_CHECKING:
    from forwardpass.edge.services import Deferral

log = logging.getLogger(__name__)

DEVICE_FILE = "device"  # in the home: the name of this device
Defer = Callable[[str, Columns, Columns], None]
MakeComposer = Callable[[Sequence[str], Defer, str], Composer]


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
        stack.enter_context(home.lock())
        settings = read_agent_settings(home.folder, order.flags)
        logging.basicConfig(level=settings.log_level.upper(), format="%(levelname)s %(message)s")
        _trust(home, order.trust)
        slots = Slots(home)
        slot, installed = _slots(home, slots, order.bundle)
        tcp = stack.enter_context(_listen(settings.port))
        unix = stack.enter_context(bind_unix(home.socket))
        np.seterr(over="raise")  # a number that does not fit its tensor's type is an error, not infinity
        asyncio.run(_main(home, settings, slots, slot, installed, [tcp, unix], blank, make_composer))


async def _main(
    home: Home,
    settings: AgentSettings,
    slots: Slots,
    slot: Slot | None,
    installed: Slot | None,
    sockets: list[socket.socket],
    blank: Blank | None,
    make_composer: MakeComposer | None,
) -> None:
    host, port = sockets[0].getsockname()[:2]
    composer = None if make_composer is None else _Lazy(make_composer, settings)
    agent = Agent(home, settings, Spawner(settings.log_level, blank), composer)
    agent.address = f"http://{host}:{port}"
    _add_ways(agent)
    deferral = _add_outbox(agent)
    if composer is not None and deferral is not None:
        composer.defer = deferral.defer
    first = slot or installed
    assert first is not None
    _add_updates(agent, slots, installed if slot is not None else None)

    def ready() -> None:
        if slot is None:
            slots.activate(first)
        log.info("%s answers at %s", first, agent.address)

    try:
        await agent.run(first, sockets, golden=slot is None, on_ready=ready)
    except InvalidModel as error:
        raise _reverted(slots, error) if slot is not None else error from None


def _reverted(slots: Slots, error: InvalidModel) -> InvalidModel:
    """What is active cannot be loaded here any more: the next start, which systemd sees to, uses what was before."""
    try:
        return InvalidModel(f"{error.message}; from the next start on {slots.revert(error.message)} is used")
    except InvalidModel as other:
        return InvalidModel(f"{error.message}; {other.message}")


class _Lazy:
    """A ``Composer`` that is made when the first model needs it: most devices have none that does."""

    def __init__(self, make: MakeComposer, settings: AgentSettings) -> None:
        self.defer: Defer = lambda request, columns, answers: None
        self._make = make
        self._urls = [settings.cloud] if settings.cloud else []
        self._withheld = _withheld(settings)

    def __call__(self, composition: Composition) -> Composed:
        return self._composer(composition)

    @functools.cached_property
    def _composer(self) -> Composer:
        if self._withheld:
            log.warning("%s", self._withheld)
        return self._make(self._urls, lambda *row: self.defer(*row), self._withheld)


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


# What is in the home


def _trust(home: Home, files: Sequence[Path]) -> None:
    """Put keys among those that are trusted. Raises ``InvalidSettings`` for what is none."""
    for file in files:
        for key_id in signing.read_public_keys(file):
            kept = home.keys / f"{key_id}{signing.PUBLIC_ENDING}"
            if not kept.exists():
                shutil.copyfile(file, kept)
                log.info("the key %s is trusted from now on", key_id)


def _slots(home: Home, slots: Slots, bundle: Path | None) -> tuple[Slot | None, Slot | None]:
    """The active slot, and the one that the bundle was unpacked into where it is another.

    Raises ``InvalidSettings`` where there is neither, ``InvalidModel`` for a bundle that is no good.
    """
    try:
        active = slots.start()
    except InvalidModel as error:
        if bundle is None:
            raise
        log.error("%s", error.message)
        active = None
    if bundle is None:
        if active is None:
            raise InvalidSettings(
                f"nothing is installed in {home.folder}; give the first bundle: "
                f"forwardpass agent --home {home.folder} --bundle FILE"
            )
        return active, None
    keys = signing.read_public_keys(home.keys)
    if not keys:
        raise InvalidSettings(f"no key is trusted in {home.keys}; add the one that signed {bundle} with --trust FILE")
    manifest = read_manifest(bundle, keys)
    if active is not None and encode_manifest(active.manifest) == encode_manifest(manifest):
        return active, None
    if active is not None and _is_newer(active.manifest, manifest):
        log.warning("%s runs, which is newer than %s: left as it is", active, bundle)
        return active, None
    folder = slots.free()
    unpack(bundle, folder, keys)
    return active, slots.read(folder)


def _is_newer(one: Manifest, other: Manifest) -> bool:
    """Of the same model."""
    same = (one.name, one.model) == (other.name, other.model)
    return same and version_order(one.version) > version_order(other.version)


def _listen(port: int) -> socket.socket:
    """On localhost alone. Raises ``InvalidSettings`` where the port is taken."""
    sock = socket.socket(socket.AF_INET)
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
    agent.inputs = [create_input(entry, device, folder) for entry in settings.inputs]
    agent.outputs = [create_output(entry, folder) for entry in settings.outputs]


def _add_outbox(agent: Agent) -> Deferral | None:
    """Where there is a cloud to tell, or the owner wants one kept. Gives what defers escalations."""
    settings = agent.settings
    if settings.cloud is None and settings.outbox is None:
        return None
    from forwardpass.edge.outbox.outbox import Outbox
    from forwardpass.edge.outbox.privacy import Level, Privacy
    from forwardpass.edge.outbox.upload import Uploader
    from forwardpass.edge.services import Deferral, OutboxService

    wanted = settings.outbox or OutboxSettings()
    privacy = Privacy(Level(wanted.privacy), wanted.usage, wanted.unsure_below)
    outbox = Outbox(agent.home.outbox, wanted.most_bytes, privacy)
    uploader = None
    if settings.cloud is not None:
        uploader = Uploader(outbox, settings.cloud, _device(agent), every=wanted.upload_every)
    deferral = Deferral(agent, outbox)
    service = OutboxService(outbox, uploader, deferral)
    agent.services.append(service)
    agent.reactions.follow(service.follow)
    agent.dataplane.recorder.add(outbox)  # usage by records: what follows predictions may drop some, usage never
    return deferral


def _add_updates(agent: Agent, slots: Slots, installed: Slot | None) -> None:
    settings = agent.settings
    if settings.updates is None and installed is None:
        return
    from forwardpass.edge.services import UpdateService
    from forwardpass.edge.updates.updater import Updater

    updater = None
    if settings.updates is not None:
        updater = Updater(
            agent.home, slots, settings.updates, agent.deployment.switch, settings.channel, settings.check_every
        )
        agent.on_check = updater.check_now
    agent.services.append(UpdateService(agent, slots, installed, updater))


def _device(agent: Agent) -> str:
    from forwardpass.edge.outbox.upload import read_device_id

    return read_device_id(agent.home.folder / DEVICE_FILE)
