"""Files over HTTP, each with a limit on its bytes and on its time, and given up at once when asked to.

What The Update Framework's client downloads with, and the chunks too. Knows no metadata and no chunks.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from tuf.api.exceptions import DownloadError, DownloadHTTPError, SlowRetrievalError
from tuf.ngclient import FetcherInterface  # type: ignore[attr-defined]

from forwardpass import __version__

SILENCE = 15.0  # seconds without a byte after which a connection is given up
GRACE = 30.0  # seconds that any download may take, however small
SLOWEST = 1024  # bytes per second below which a download is given up after that
_READ = 64 * 1024


class Fetcher(FetcherInterface):
    """Downloads from one server, over kept connections; for one thread. ``stop`` ends what is under way."""

    def __init__(self, url: str, silence: float = SILENCE, grace: float = GRACE) -> None:
        self._connections = _open(url, silence)
        self._grace = grace
        self._stopped = threading.Event()

    def stop(self) -> None:
        """From any thread: what is being downloaded fails soon, and whatever is asked for later."""
        self._stopped.set()

    def get(self, url: str, size: int) -> bytes:
        """All of a file that has so many bytes. Raises ``DownloadError`` of The Update Framework."""
        return self.download_bytes(url, size)

    def _fetch(self, url: str) -> Iterator[bytes]:
        began, received = time.monotonic(), 0
        try:
            response = self._connections.request("GET", url, preload_content=False, redirect=True)
            try:
                if response.status != 200:
                    raise DownloadHTTPError(f"{url}: status {response.status}", response.status)
                while piece := response.read1(_READ):
                    received += len(piece)
                    self._check(url, time.monotonic() - began, received)
                    yield piece
                response.release_conn()
            finally:
                response.close()
        except urllib3.exceptions.HTTPError as error:
            cause = getattr(error, "reason", None) or error
            refused = isinstance(cause, urllib3.exceptions.NewConnectionError)  # to the library, a kind of timeout
            if isinstance(cause, urllib3.exceptions.TimeoutError) and not refused:
                raise SlowRetrievalError(f"{url}: nothing came for too long") from None
            # the library tells of its pools and addresses; what is below that is for people
            raise DownloadError(f"{url}: {getattr(cause, '__cause__', None) or cause}") from None

    def _check(self, url: str, seconds: float, received: int) -> None:
        if self._stopped.is_set():
            raise DownloadError(f"{url}: stopped")
        if seconds > self._grace + received / SLOWEST:
            raise SlowRetrievalError(f"{url}: {received} bytes in {seconds:.0f} s is too slow")


def _open(url: str, silence: float) -> urllib3.PoolManager:
    """By way of the proxy that the environment names, if it names one for this server."""
    options = {
        "timeout": urllib3.Timeout(silence),
        "retries": urllib3.Retry(0, redirect=3),
        "headers": {"User-Agent": f"forwardpass/{__version__}", "Accept-Encoding": "identity"},
    }
    parts = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if proxy and not proxy_bypass(parts.hostname or ""):
        return urllib3.ProxyManager(proxy, **options)  # type: ignore[arg-type]
    return urllib3.PoolManager(**options)  # type: ignore[arg-type]
