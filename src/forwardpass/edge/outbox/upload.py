"""Uploads the outbox to a server's intake: in order, some at a time, each once in effect.

An entry leaves the outbox only when the server's answer names it; one that is sent again after a lost answer is
recognised there by its id. Predictions do not know that this exists, and it does not know what the entries mean.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import logging
import random
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import orjson

from forwardpass.address import Address
from forwardpass.edge import durable
from forwardpass.edge.client import Response, post
from forwardpass.edge.outbox.entry import Entry, Kind
from forwardpass.edge.outbox.outbox import Outbox
from forwardpass.edge.waits import pause
from forwardpass.errors import ForwardpassError, InvalidSettings, NotReady

log = logging.getLogger(__name__)
INTAKE = "/v1/intake"
KINDS = (Kind.USAGE, Kind.RECORD, Kind.SAMPLE)
MOST_ENTRIES = 500  # of one upload
MOST_BYTES = 256 * 1024  # of their bodies, before they are compressed; a larger entry goes alone
EVERY = 10.0  # seconds between uploads while there is a network: a radio that sleeps costs less
FIRST_WAIT, MOST_WAIT = 1.0, 300.0  # seconds between tries, unless the server asks for more
MOST_ASKED = 3600.0  # seconds that a server may ask to wait
REFUSED = (400, 413, 422)  # something in this upload is wrong; any other status is about now, or about us

Post = Callable[[str, bytes, Mapping[str, str]], Awaitable[Response]]  # to a URL, a body, headers; see ``client.post``


class Refused(ForwardpassError):
    """The server does not take this upload as it is."""


class Uploaded(msgspec.Struct, frozen=True):
    """What the server answers: ids that it has now, and those that it will not take, with the reason."""

    accepted: list[str]
    refused: list[dict[str, str]] = []


class Uploader:
    """Uploads until cancelled. ``headers`` are asked for what goes with each upload, such as ``authorization``."""

    def __init__(
        self,
        outbox: Outbox,
        url: str,
        device: str,
        *,
        headers: Callable[[], Mapping[str, str]] = dict,
        every: float = EVERY,
        post: Post = post,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """Raises ``InvalidInput`` where nobody can be asked at ``url``, the base URL of the server."""
        Address.base(url)
        self.last_contact: float | None = None  # seconds since the epoch, by this device
        self.on_upload: Callable[[], None] = lambda: None  # something was taken
        self.error = ""  # why the last try failed; empty where it did not
        self._outbox = outbox
        self._url = url.rstrip("/") + INTAKE
        self._device = device
        self._headers = headers
        self._every = every
        self._post, self._sleep, self._draw = post, sleep, draw
        self._contact = asyncio.Event()

    def contact(self) -> None:
        """The server may be there again: what waits after a failure is tried now, unless it asked for longer."""
        self._contact.set()

    async def run(self) -> None:
        """Until cancelled. What goes wrong is kept in ``error`` and tried again."""
        failures = 0
        while True:
            asked = 0.0
            self._contact.clear()
            try:
                if await self.drain():
                    self.on_upload()
                failures, self.error = 0, ""
            except ForwardpassError as error:
                asked = min(MOST_ASKED, getattr(error, "retry_after", 0.0))
                failures += 1
                self._say(error.message)
            over = self._sleep(max(asked, self._wait(failures)) if failures else self._every)
            await (pause(over, self._contact) if failures and not asked else over)

    async def drain(self) -> int:
        """Upload all that waits; how many entries. Raises ``ForwardpassError`` where that is not possible now."""
        done = 0
        while entries := await self._outbox.next(KINDS, MOST_ENTRIES, MOST_BYTES):
            done += await self._upload(entries)
        return done

    async def _upload(self, entries: Sequence[Entry]) -> int:
        """Upload these; where the server refuses them, in halves, until what it refuses is alone."""
        try:
            answer = await self._send(entries)
        except Refused as error:
            if len(entries) == 1:
                await self._require_any()
                await self._outbox.set_aside(entries[0].id, error.message)
                return 0
            middle = len(entries) // 2
            return await self._upload(entries[:middle]) + await self._upload(entries[middle:])
        return await self._settle(entries, answer)

    async def _require_any(self) -> None:
        """Raise ``NotReady`` where not even an empty upload is taken: then it is not the entry's fault."""
        try:
            await self._send(())
        except Refused as error:
            raise NotReady(f"{self._url} takes no upload at all: {error.message}") from None

    async def _send(self, entries: Sequence[Entry]) -> Uploaded:
        body = await asyncio.to_thread(gzip.compress, self._body(entries), 6, mtime=0)
        key = hashlib.sha256("\n".join([self._device, *(entry.id for entry in entries)]).encode()).hexdigest()[:32]
        headers = {"content-type": "application/json", "content-encoding": "gzip", "idempotency-key": key}
        response = await self._post(self._url, body, {**self._headers(), **headers})
        self.last_contact = self._outbox.clock.wall()
        if response.ok:
            return _uploaded(response)
        raise _failure(response, self._url)

    async def _settle(self, entries: Sequence[Entry], answer: Uploaded) -> int:
        """Let go of what the server has, and set aside what it will never take."""
        accepted = set(answer.accepted)
        refused = {item.get("id"): item.get("reason", "") for item in answer.refused}
        has = [entry.id for entry in entries if entry.id in accepted]
        never = [entry.id for entry in entries if entry.id in refused and entry.id not in accepted]
        await self._outbox.remove(has)
        for name in never:
            await self._outbox.set_aside(name, refused[name])
        if not (has or never):
            raise NotReady(f"{self._url} named none of the {len(entries)} entries that it was sent")
        return len(has)

    def _body(self, entries: Sequence[Entry]) -> bytes:
        clock = self._outbox.clock
        return orjson.dumps(
            {
                "device": self._device,
                "at": clock.wall(),
                "up": clock.up(),
                "boot": clock.boot,
                "entries": [
                    {"id": entry.id, "kind": str(entry.kind), "at": entry.at, "up": entry.up, "boot": entry.boot,
                     "body": orjson.Fragment(entry.body)}
                    for entry in entries
                ],
            }
        )  # fmt: skip

    def _wait(self, failures: int) -> float:
        """Seconds until the next try: longer each time, and not the same on every device."""
        longest = min(MOST_WAIT, FIRST_WAIT * 2.0 ** min(failures - 1, 20))
        return longest * (0.5 + self._draw() / 2)

    def _say(self, message: str) -> None:
        if message != self.error:
            log.warning("upload: %s; the entries wait, and it is tried again", message)
        self.error = message


class _Later(NotReady):
    """The server does not take anything now."""

    retry_after = 0.0


def _failure(response: Response, url: str) -> ForwardpassError:
    """What an answer that is no success means for what was sent."""
    said = _error_text(response)
    if response.status == 413 or (response.status in REFUSED and said):
        return Refused(said or f"the server answered {response.status}")
    reason = {404: "it has no intake; start it with --intake DIR", 401: "it wants a header that says who this is"}
    later = _Later(f"{url} answered {response.status}: {said or reason.get(response.status, 'and not why')}")
    later.retry_after = response.retry_after
    return later


def _error_text(response: Response) -> str:
    """What our own servers say; empty for a proxy's page, which says nothing of the entries."""
    try:
        found = orjson.loads(response.body)
    except orjson.JSONDecodeError:
        return ""
    return str(found["error"]) if isinstance(found, dict) and "error" in found else ""


def _uploaded(response: Response) -> Uploaded:
    try:
        return msgspec.json.decode(response.body, type=Uploaded)
    except msgspec.MsgspecError as error:
        raise NotReady(f"the answer to an upload cannot be read, so the entries stay: {error}") from None


def read_device_id(file: Path) -> str:
    """The name of this device, drawn once and kept in ``file``. Raises ``InvalidSettings`` where it cannot be used."""
    try:
        found = file.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return _new_device_id(file)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSettings(f"{file}: the name of this device cannot be read: {error}") from None
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", found):
        raise InvalidSettings(f"{file}: a device's name has 1 to 64 letters, digits, dots or dashes; got {found!r}")
    return found


def _new_device_id(file: Path) -> str:
    made = f"device-{secrets.token_hex(8)}"
    try:
        durable.make_folder(file.parent)
        durable.write(file, f"{made}\n".encode())
    except OSError as error:
        raise InvalidSettings(f"{file}: the name of this device cannot be kept: {error.strerror or error}") from None
    return made
