"""One batch of requests: JSON Lines in, each posted to the server in the background, JSON Lines out.

A process of its own (``python -m forwardpass.jobs.service.request_batch``), which tells on stdout how far it is, as
``forwardpass run --json`` does. Answers are appended as they come; a batch that is run again goes on
behind those that are there.
"""

from __future__ import annotations

import argparse
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from forwardpass.errors import InvalidInput, NotReady
from forwardpass.jobs.remote import BUSY, Client, Patience
from forwardpass.jobs.service.files import FileStore

AT_ONCE = 8  # requests under way
TOLD = 1.0  # seconds between two tellings of progress
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
ENDPOINT = re.compile(rf"/v1/models/{_NAME}(/versions/\d+)?:predict|/v2/models/{_NAME}(/versions/\d+)?/infer")


class Line(msgspec.Struct, frozen=True):
    """A request, as OpenAI's batches have it."""

    custom_id: str
    method: str
    url: str
    body: msgspec.Raw


class InvalidLine(InvalidInput):
    """``line`` counts from 1."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True)
class Asked:
    """A batch: which file goes to which endpoint of the server at ``url``, and until when (seconds since the epoch)."""

    id: str
    url: str
    input: Path
    endpoint: str
    expires: float


def check(asked: Asked) -> int:
    """How many requests there are. Raises ``InvalidLine`` for the first that is none."""
    seen: set[str] = set()
    for number, raw in _lines(asked.input):
        line = _line(number, raw)
        if line.method != "POST":
            raise InvalidLine(number, f"`method` is {line.method!r}; only POST is offered")
        if line.url != asked.endpoint:
            raise InvalidLine(number, f"`url` is {line.url!r}, the batch's endpoint is {asked.endpoint!r}")
        if line.custom_id in seen:
            raise InvalidLine(number, f"`custom_id` {line.custom_id!r} is there twice")
        seen.add(line.custom_id)
    if not seen:
        raise InvalidLine(1, "the file holds no request")
    return len(seen)


class Batch:
    """The requests of a batch, on their way. ``output`` and ``errors`` are files to append answers to."""

    def __init__(self, asked: Asked, output: Path, errors: Path) -> None:
        self._asked = asked
        self._done = {*_answered(output), *_answered(errors)}
        self._output, self._errors = output.open("ab"), errors.open("ab")
        self.completed, self.failed = _count(output), _count(errors)
        self.expired = False
        self._todo = iter(_lines(asked.input))
        self._lock = threading.Lock()
        self._broken: Exception | None = None

    def run(self, tell: Any) -> None:
        """Send all that has no answer yet. Raises what stops it before the end."""
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(AT_ONCE)]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(TOLD)
                tell(self.completed, self.failed)
        self._output.close()
        self._errors.close()
        if self._broken is not None:
            raise self._broken

    def _work(self) -> None:
        client = Client(self._asked.url)
        try:
            while (taken := self._next()) is not None:
                self._write(*self._answer(client, *taken))
        except Exception as error:  # noqa: BLE001 - told by the thread that waits for all
            self._broken = error
        finally:
            client.close()

    def _next(self) -> tuple[int, Line] | None:
        with self._lock:
            if self._broken is not None:
                return None
            for number, raw in self._todo:
                line = _line(number, raw)
                if line.custom_id not in self._done:
                    return number, line
        return None

    def _answer(self, client: Client, number: int, line: Line) -> tuple[bool, dict[str, Any]]:
        """Whether it went well, and the line that says how."""
        name = f"batch_req_{self._asked.id.removeprefix('batch_')}_{number}"
        said: dict[str, Any] = {"id": name, "custom_id": line.custom_id, "response": None, "error": None}
        patience = Patience(seconds=self._asked.expires - time.time())
        headers = {"content-type": "application/json", "x-priority": "background", "x-request-id": name}
        while time.time() < self._asked.expires:
            try:
                answer = client.ask("POST", line.url, bytes(line.body), headers)
                if answer.status not in (*BUSY, 504):
                    body = msgspec.json.decode(answer.body)
                    said["response"] = {"status_code": answer.status, "request_id": name, "body": body}
                    return answer.status < 400, said
                patience.wait(client.url, answer.error, answer.retry_after)
            except OSError as error:
                patience.wait(client.url, str(error))
            except NotReady:
                break
        self.expired = True
        said["error"] = {"code": "batch_expired", "message": "the batch's time was over before it was answered"}
        return False, said

    def _write(self, well: bool, line: dict[str, Any]) -> None:
        with self._lock:
            file = self._output if well else self._errors
            file.write(msgspec.json.encode(line) + b"\n")
            file.flush()
            self.completed += well
            self.failed += not well


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that hold something, by their numbers."""
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            if raw.strip():
                yield number, raw


def _line(number: int, raw: bytes) -> Line:
    try:
        return msgspec.json.decode(raw, type=Line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidLine(number, f"is no request of a batch: {error}") from None


def _answered(path: Path) -> set[str]:
    """The ``custom_id`` of the answers in a file; a last line that was cut off is taken out of it."""
    if not path.exists():
        return set()
    with path.open("r+b") as file:
        found = {msgspec.json.decode(raw)["custom_id"] for raw in _whole(file)}
        file.truncate()
    return found


def _whole(file: BinaryIO) -> Iterator[bytes]:
    """The lines that end; leaves the file at the end of the last of them."""
    while (raw := file.readline()).endswith(b"\n"):
        yield raw
    file.seek(-len(raw), 1)


def _count(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)


def run(asked: Asked, files: FileStore) -> None:
    """Do a batch, and tell it on stdout."""
    output, errors = (f"file-{asked.id.removeprefix('batch_')}-{kind}" for kind in ("output", "errors"))
    try:
        total = check(asked)
        batch = Batch(asked, files.part(output), files.part(errors))
        batch.run(lambda completed, failed: _tell("progress", total=total, completed=completed, failed=failed))
    except InvalidLine as error:
        _tell("failed", kind="invalid_line", error=error.message, line=error.line)
        sys.exit(1)
    except FileNotFoundError:
        _tell("failed", kind="file_not_found", error="the file of requests was deleted")
        sys.exit(1)
    facts = {"total": total, "completed": batch.completed, "failed": batch.failed, "expired": batch.expired}
    _tell("done", manifest={**facts, **publish(asked.id, files)})


def publish(id: str, files: FileStore) -> dict[str, str]:
    """The answers of a batch so far become files, where there are any; their ids by what they hold."""
    ids = {}
    for kind in ("output", "errors"):
        file = f"file-{id.removeprefix('batch_')}-{kind}"
        part = files.part(file)
        if _answered(part):
            files.publish(file, f"{id}_{kind}.jsonl", "batch_output")
        part.unlink(missing_ok=True)
        if files.path(file).is_file():
            ids[kind] = file
    return ids


def _tell(event: str, **facts: Any) -> None:
    sys.stdout.write(msgspec.json.encode({"event": event, **facts}).decode() + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m forwardpass.jobs.service.request_batch", description="Run one batch of a server."
    )
    for name in ("--url", "--files", "--id", "--input", "--endpoint"):
        parser.add_argument(name, required=True)
    parser.add_argument("--expires", type=float, required=True)
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # what is written is enough to go on
    files = FileStore(Path(given.files))
    run(Asked(given.id, given.url, files.path(given.input), given.endpoint, given.expires), files)


if __name__ == "__main__":
    main()
