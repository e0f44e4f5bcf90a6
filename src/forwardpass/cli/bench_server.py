"""The server that ``bench`` measures: one of its own, for as long as it is needed, or a running one.

In flow a path or an address, out flow what a server says over HTTP of one version: its facts, its
sample, its statistics.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib import error as urllib_error
from urllib import request as urllib_request

from forwardpass.cli.bench_requests import sample_source
from forwardpass.cli.client import TIMEOUT, Client
from forwardpass.cli.sources import Source
from forwardpass.errors import BackendFailed, InvalidModel, NotFound, NotReady, nearest

START = 120.0  # seconds in which a server must be up
STOP = 35.0  # seconds in which it must have finished what is under way
_READY = re.compile(r"^(?:ready|no model is ready yet) at (http://\S+)$", re.MULTILINE)


@dataclass
class Batches:
    """Batches that formed: how many of each size, and why they left."""

    sizes: Counter[int] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def mean(self) -> float | None:
        """Rows of a batch; None where no batch ran."""
        count = self.sizes.total()
        return sum(size * number for size, number in self.sizes.items()) / count if count else None

    def since(self, before: Batches) -> Batches:
        return Batches(self.sizes - before.sizes, self.reasons - before.reasons)


class Model:
    """One version on a running server. ``facts`` is its entry of ``GET /models``."""

    def __init__(self, client: Client, facts: dict[str, Any], grpc: str = "") -> None:
        self.url = client.url
        self.grpc = grpc
        self.facts = facts
        self.name, self.version = str(facts["name"]), str(facts["version"])
        self._client = client

    @property
    def path(self) -> str:
        return f"{self.name}/versions/{self.version}"

    def sample(self) -> Source | None:
        """Its own sample; None where it has none."""
        address = f"{self.url}/models/{self.path}/sample"
        try:
            with urllib_request.urlopen(address, timeout=TIMEOUT) as answer:  # noqa: S310 - http(s), checked by Client
                return sample_source(answer.read(), answer.headers.get_content_type())
        except urllib_error.HTTPError as error:
            error.close()
            return None

    def statistics(self) -> dict[str, Any]:
        found = self._client.ask(f"/v2/models/{self.path}/stats")["model_stats"]
        return dict(found[0])

    def batches(self) -> Batches:
        """All batches since it was loaded."""
        stats = self.statistics()
        sizes = {int(item["batch_size"]): int(item["count"]) for item in stats.get("batch_stats", ())}
        return Batches(Counter(sizes), Counter(stats.get("batch_reasons", {})))


def connect(url: str, wanted: str | None = None, grpc: str = "") -> Model:
    """A version on a running server: ``NAME``, ``NAME/VERSION``, or None for the only one there is.

    Raises ``NotFound`` where there is none of that name, ``NotReady`` where it cannot answer.
    """
    client = Client(url)
    models = client.ask("/models")["models"]
    name, _, version = (wanted or "").partition("/")
    found = [item for item in models if wanted is None or (item["name"] == name and version in ("", item["version"]))]
    names = {str(item["name"]) for item in models}
    if not found:
        raise NotFound(f"{url} has no model {wanted!r}.{nearest(wanted or '', names)}")
    if wanted is None and len(names) > 1:
        raise InvalidModel(f"several models lie there ({', '.join(sorted(names))}); name the folder of one of them")
    newest = max(found, key=lambda item: (item["state"] == "READY", int(item["version"])))
    if newest["state"] != "READY":
        raise NotReady(f"model {newest['name']!r} is {newest['state']}: {newest['reason']}")
    return Model(client, newest, grpc)


@contextlib.contextmanager
def serving(path: Path, *, grpc: bool = False) -> Iterator[Model]:
    """A server of one model on free ports, in a process of its own; gone afterwards. ``grpc`` opens that door too.

    Raises ``InvalidModel`` where the model cannot be served, with what the server said.
    """
    with tempfile.NamedTemporaryFile(prefix="bench-", suffix=".log") as log:
        doors = ["--port", "0", *(["--grpc-port", "0"] if grpc else ["--no-grpc"])]
        command = [sys.executable, "-m", "forwardpass", "serve", str(path), *doors, "--log-level", "warning"]
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            said = _greeting(process, Path(log.name))
            door = re.search(r"^gRPC +(\S+)", said, re.MULTILINE)
            yield connect(_READY.findall(said)[0], grpc=door[1] if door else "")
        finally:
            _stop(process)


def _greeting(process: subprocess.Popen[bytes], log: Path) -> str:
    """What it prints once all is loaded or has failed."""
    end = time.monotonic() + START
    while process.poll() is None and time.monotonic() < end:
        text = log.read_text(errors="replace")
        if _READY.search(text) and text.endswith("\n"):
            return text
        time.sleep(0.02)
    said = log.read_text(errors="replace").strip().splitlines()
    reason = said[-1].removeprefix("forwardpass: ") if said else "it said nothing"
    if process.poll() is None:
        raise BackendFailed(f"the server was not ready after {START:.0f} seconds: {reason}")
    raise InvalidModel(reason)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
