"""A running server as the engine of a job: batches are sent to it in the background, its live requests first.

Over HTTP with raw tensors, one request at a time on a connection that is kept. A server that is busy,
restarting or gone is asked again for some minutes; what it refuses is halved until the bad row is alone.
"""

from __future__ import annotations

import http.client
import json
import re
import time
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np

from forwardpass.address import Address
from forwardpass.errors import (
    BackendFailed,
    ForwardpassError,
    InvalidInput,
    InvalidModel,
    NotFound,
    NotReady,
    TimedOut,
    TooLarge,
    nearest,
)
from forwardpass.jobs.engine import JobEngine
from forwardpass.jobs.tensors import decode_answer, encode_request
from forwardpass.types import Columns, DType, InputSpec, InputType, Signature, TensorSpec

PATIENCE = 300.0  # seconds without an answer after which a part is given up
MOST_WAIT = 5.0  # seconds between two tries, unless the server asks for more
MOST_ROWS = 512  # of a request: several workers' requests must find room in the queue of a model's defaults
BUSY = (429, 502, 503)  # worth another try, whatever was sent
STEP = "server"  # of rows that it refuses
_COMPUTE = re.compile(r"(?:preprocess|forward|postprocess);dur=([0-9.]+)")
_KINDS: dict[int, type[ForwardpassError]] = {400: InvalidInput, 404: NotFound, 413: TooLarge, 504: TimedOut}


class Answer(NamedTuple):
    """Header names are in small letters."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> str:
        """What the server says that went wrong."""
        try:
            return str(json.loads(self.body)["error"])
        except (ValueError, KeyError, TypeError):
            return f"the server answered {self.status}"

    @property
    def retry_after(self) -> float:
        """Seconds, 0 where it does not say."""
        text = self.headers.get("retry-after", "")
        return min(60.0, float(text)) if text.isdigit() else 0.0


class Client:
    """One connection to ``http://host:port``, opened when it is needed and kept."""

    def __init__(self, url: str) -> None:
        try:
            address = Address.base(url)
        except InvalidInput as error:
            raise InvalidInput(f"--url: {error.message}") from None
        self.url = url.rstrip("/")
        kind = http.client.HTTPSConnection if address.tls else http.client.HTTPConnection
        self._path = address.path
        self._connection = kind(address.host, address.port, timeout=PATIENCE)

    def ask(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Answer:
        """Raises ``OSError`` where there is no answer."""
        try:
            self._connection.request(method, self._path + path, body, headers or {})
            answer = self._connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise OSError(f"{type(error).__name__}: {error}") from None
        if answer.will_close:
            self._connection.close()
        return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, content)

    def close(self) -> None:
        self._connection.close()


class Patience:
    """Waits between tries, longer each time, and for so many ``seconds`` altogether."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
        seconds: float = PATIENCE,
    ) -> None:
        self._clock, self._sleep = clock, sleep
        self._seconds = seconds
        self._end = clock() + seconds
        self._next = 0.0  # a connection that was kept may have been closed meanwhile: the first try again is at once

    def wait(self, url: str, why: str, at_least: float = 0.0) -> None:
        """Raises ``NotReady`` where there is no time left."""
        if self._clock() >= self._end:
            raise NotReady(f"{url} gave no answer for {self._seconds:g} s ({why}). Once it does, --resume goes on")
        self._sleep(max(self._next, at_least))
        self._next = min(MOST_WAIT, max(0.1, 2 * self._next))


class RemoteEngine(JobEngine):
    """A version of a server's model, by the URL that ``find_remote`` gives."""

    def __init__(self, address: str) -> None:
        """Return once it is ready. Raises ``NotFound``, ``InvalidModel`` or ``NotReady`` where it will not be."""
        url, _, path = address.partition("/v2/models/")
        self._client = Client(url)
        self._infer = f"/v2/models/{path}/infer"
        name, _, self._version = path.partition("/versions/")
        self.signature = _signature(_when_loaded(self._client, name, self._version))
        self._fitting = MOST_ROWS  # rows that the server takes at once
        self._timely = MOST_ROWS  # rows that it lately answered in time

    def run(self, columns: Columns, rows: int) -> tuple[Columns, dict[int, ForwardpassError], float]:
        answers: list[Columns] = []
        failures: dict[int, ForwardpassError] = {}
        seconds = 0.0
        todo = [(0, rows)]
        while todo:
            start, stop = todo.pop()
            most = min(self._fitting, self._timely)
            if stop - start > most:
                todo.append((start + most, stop))
                stop = start + most
            whole = stop - start == rows  # also of a model without rows
            try:
                outputs, compute = self._ask(
                    columns if whole else {name: array[start:stop] for name, array in columns.items()}, stop - start
                )
            except (NotFound, NotReady):
                raise
            except ForwardpassError as error:
                todo.extend(self._after(error, start, stop, failures))
                continue
            self._timely = min(MOST_ROWS, self._timely + self._timely // 8 + 1)
            answers.append(outputs)
            seconds += compute
        return _joined(answers), failures, seconds

    def close(self) -> None:
        self._client.close()

    def _after(
        self, error: ForwardpassError, start: int, stop: int, failures: dict[int, ForwardpassError]
    ) -> list[tuple[int, int]]:
        """What is left to do of rows that have no answer."""
        if stop - start == 1:
            error.step = STEP
            failures[start] = error
            return []
        middle = (start + stop) // 2
        if isinstance(error, TooLarge):
            self._fitting = middle - start
        elif isinstance(error, TimedOut):
            self._timely = middle - start
        return [(middle, stop), (start, middle)]

    def _ask(self, columns: Columns, rows: int) -> tuple[Columns, float]:
        """Outputs and seconds. Raises what the server says of these rows, ``NotReady`` where it says nothing."""
        length, body = encode_request(columns, self.signature.inputs)
        headers = {
            "content-type": "application/octet-stream",
            "inference-header-content-length": str(length),
            "x-priority": "background",
        }
        patience = Patience()
        while True:
            try:
                answer = self._client.ask("POST", self._infer, body, headers)
            except OSError as error:
                patience.wait(self._client.url, str(error))
                continue
            if answer.status == 200:
                return self._read(answer, rows)
            if answer.status not in BUSY and not (answer.status == 504 and rows == 1):
                raise _KINDS.get(answer.status, BackendFailed)(answer.error)
            patience.wait(self._client.url, answer.error, answer.retry_after)

    def _read(self, answer: Answer, rows: int) -> tuple[Columns, float]:
        length = answer.headers.get("inference-header-content-length", "")
        try:
            outputs, version = decode_answer(answer.body, int(length) if length.isdigit() else len(answer.body))
        except ValueError as error:
            raise NotReady(f"{self._client.url}: its answer cannot be read: {error}") from None
        missing = [spec.name for spec in self.signature.outputs if spec.name not in outputs]
        if version not in ("", self._version):
            raise NotReady(f"{self._client.url}: version {version} answered, where {self._version} was asked for")
        if missing or (self.signature.batched and any(len(array) != rows for array in outputs.values())):
            raise NotReady(f"{self._client.url}: the model has changed while the job ran; --resume says what")
        milliseconds = sum(map(float, _COMPUTE.findall(answer.headers.get("server-timing", ""))))
        return outputs, milliseconds / 1e3


def find_remote(url: str, name: str, version: str) -> tuple[str, str, str]:
    """Name, version and address of a server's model; its newest ready version where none is named.

    Raises ``NotFound``, and ``NotReady`` where the server does not answer.
    """
    client = Client(url)
    try:
        models = _models(client)
    except OSError as error:
        raise NotReady(f"cannot reach {client.url}: {error}; is `forwardpass serve` running there?") from None
    finally:
        client.close()
    found = _found(models, client.url, name, version)
    address = f"{client.url}/v2/models/{quote(found['name'])}/versions/{quote(found['version'])}"
    return found["name"], found["version"], address


def _models(client: Client) -> list[dict[str, Any]]:
    """Every version there is. Raises ``OSError`` where there is no such answer."""
    answer = client.ask("GET", "/models")
    try:
        return list(json.loads(answer.body)["models"])
    except (ValueError, KeyError, TypeError):
        raise OSError(f"{client.url} answered {answer.status}, and not as a Forwardpass server does") from None


def _found(models: list[dict[str, Any]], url: str, name: str, version: str) -> dict[str, Any]:
    versions = [item for item in models if item["name"] == name]
    if not versions:
        raise NotFound(f"{url} has no model {name!r}.{nearest(name, {item['name'] for item in models})}")
    named = [item for item in versions if item["version"] == version or not version]
    if not named:
        known = nearest(version, [item["version"] for item in versions])
        raise NotFound(f"{url}: model {name!r} has no version {version!r}.{known}")
    return max(named, key=lambda item: (item["state"] == "READY", int(item["version"])))


def _when_loaded(client: Client, name: str, version: str) -> dict[str, Any]:
    """What the server says of a model, once it is ready."""
    patience = Patience()
    while True:
        try:
            found = _found(_models(client), client.url, name, version)
        except OSError as error:
            patience.wait(client.url, str(error))
            continue
        if found["state"] == "READY":
            return found
        if found["state"] != "LOADING":
            raise InvalidModel(f"{client.url}: model {name!r} version {version} is not ready: {found['reason']}")
        patience.wait(client.url, f"model {name!r} is loading")


def _signature(said: dict[str, Any]) -> Signature:
    inputs = tuple(
        InputSpec(
            _tensor(item),
            InputType(item["type"]),
            item["description"],
            item["required"],
            item["minimum"],
            item["maximum"],
            item["allow_nan"],
            tuple(item["categories"]),
            item["max_length"],
            item["max_pixels"],
        )
        for item in said["inputs"]
    )
    return Signature(inputs, tuple(map(_tensor, said["outputs"])), said["batched"])


def _tensor(item: dict[str, Any]) -> TensorSpec:
    shape = tuple(None if axis < 0 else axis for axis in item["shape"])
    return TensorSpec(item["name"], DType(item["datatype"]), shape)


def _joined(answers: list[Columns]) -> Columns:
    if len(answers) <= 1:
        return answers[0] if answers else {}
    return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}
