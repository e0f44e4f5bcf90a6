"""Asking a running server over HTTP, with the standard library alone.

In flow an address and a body, out flows the decoded JSON answer; an error of the server is raised
as the same kind of error that it was there.
"""

from __future__ import annotations

import csv
import io
import json
from typing import Any, NoReturn
from urllib import error as urllib_error
from urllib import request as urllib_request

from forwardpass.cli.output import encode_bytes
from forwardpass.cli.sources import Table
from forwardpass.errors import (
    BackendFailed,
    ForwardpassError,
    InvalidInput,
    NotFound,
    NotReady,
    QuotaExceeded,
    TimedOut,
    TooLarge,
)

TIMEOUT = 60.0  # seconds without a byte from the server
_KINDS: dict[int, type[ForwardpassError]] = {
    400: InvalidInput,
    404: NotFound,
    413: TooLarge,
    429: QuotaExceeded,
    503: NotReady,
    504: TimedOut,
}


class Client:
    """A server at ``http://host:port``."""

    def __init__(self, url: str) -> None:
        if not url.startswith(("http://", "https://")):
            raise InvalidInput(f"--url {url!r}: must start with http:// or https://, like http://127.0.0.1:8000")
        self.url = url.rstrip("/")

    def predict(self, model: str, rows: list[Any] | Table) -> list[Any]:
        """Predictions for some rows; ``model`` is ``NAME`` or ``NAME/VERSION``."""
        name, _, version = model.partition("/")
        path = f"/v1/models/{name}/versions/{version}:predict" if version else f"/v1/models/{name}:predict"
        if isinstance(rows, Table):
            answer = self.ask(path, _csv(rows), "text/csv")
        else:
            answer = self.ask(path, json.dumps({"instances": rows}, default=encode_bytes).encode(), "application/json")
        return list(answer["predictions"])

    def models(self) -> list[dict[str, Any]]:
        """Every version that the server has or could load: name, version, state, reason, description."""
        index = self.ask("/v2/repository/index", b"{}", "application/json")
        about = {(item["name"], item["version"]): item for item in self.ask("/models")["models"]}
        return [
            {**item, "description": about.get((item["name"], item["version"]), {}).get("description", "")}
            for item in index
        ]

    def ask(self, path: str, body: bytes | None = None, content_type: str = "") -> Any:
        """The JSON at a path; POST where there is a body. Raises ``ForwardpassError``."""
        headers = {"content-type": content_type} if content_type else {}
        request = urllib_request.Request(self.url + path, body, headers)  # noqa: S310 - http(s), checked above
        try:
            with urllib_request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310
                return self._decode(answer.read())
        except urllib_error.HTTPError as error:
            with error:
                self._raise(error.code, error.read())
        except TimeoutError:
            raise TimedOut(f"{self.url} did not answer within {TIMEOUT:.0f} seconds") from None
        except OSError as error:
            raise self._unreachable(error) from None

    def _raise(self, status: int, body: bytes) -> NoReturn:
        try:
            said = json.loads(body)["error"]
        except (ValueError, KeyError, TypeError):
            said = f"{self.url} answered {status}; is it a Forwardpass server?"
        raise _KINDS.get(status, BackendFailed)(str(said))

    def _decode(self, body: bytes) -> Any:
        try:
            return json.loads(body)
        except ValueError:
            raise BackendFailed(f"{self.url} did not answer with JSON; is it a Forwardpass server?") from None

    def _unreachable(self, error: OSError) -> NotReady:
        reason = getattr(error, "reason", error)
        why = getattr(reason, "strerror", None) or reason
        return NotReady(f"cannot reach {self.url}: {why}; is `forwardpass serve` running there?")


def _csv(table: Table) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows([table.header, *table.rows])
    return text.getvalue().encode()
