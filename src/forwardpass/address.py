"""Addresses on the web as people write them down: which server, and what is asked of it.

All that sends requests over HTTP takes them apart here, so that a URL is good for all of it or for none. What could
not be sent is refused; odd characters of a path are quoted. Opens no connection.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from urllib.parse import quote, urlsplit

from forwardpass.errors import InvalidInput

_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[\w.:%~-]+", re.ASCII)
_PLAIN = "/%:@!$&'()*+,;=~"  # characters of a path that need not be quoted, besides letters and digits
_BEGIN = re.compile(r"(\w+://)?(?:[^/?#@]*@)?([^:/?#@]{0,200})")  # of what is refused: scheme and host


@dataclass(frozen=True)
class Address:
    """All ASCII. ``host`` has no brackets; ``path`` is "" where there is none, and so is ``query``."""

    scheme: str
    host: str
    port: int
    path: str
    query: str = ""

    @classmethod
    def of(cls, url: str) -> Address:
        """Raises ``InvalidInput`` for what is no http or https URL, or holds a name or password."""
        try:
            parts = urlsplit(url)
            host = (parts.hostname or "").encode("idna").decode()
            port = _PORTS.get(parts.scheme, 0) if parts.port is None else parts.port
            path, query = quote(parts.path, safe=_PLAIN), quote(parts.query, safe=_PLAIN + "?")
            known = parts.scheme in _PORTS and port > 0 and _HOST.fullmatch(host) is not None
        except ValueError:  # of a bracket, a port, a name that is too long, a character that is none
            known = False
        if not known:
            raise InvalidInput(f"{_shown(url)!r} is no URL that can be asked; give one like https://cloud.example:8000")
        if parts.username is not None:
            raise InvalidInput(f"the URL of {host} holds a name or password; give those as a header")
        return cls(parts.scheme, host, port, path, query)

    @classmethod
    def base(cls, url: str) -> Address:
        """Of a server, to whose path others are added: it has no slash at its end. Raises as ``of``."""
        address = cls.of(url)
        if "?" in url or "#" in url:
            raise InvalidInput(f"the URL of {address.host} goes on after its path; leave out what ? or # begins")
        return replace(address, path=address.path.rstrip("/"))

    @property
    def tls(self) -> bool:
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        """As a Host header has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """Whom is asked, for messages: no path, which may hold a secret."""
        return f"{self.scheme}://{self.authority}"

    @property
    def target(self) -> str:
        """As a request's line has it."""
        return (self.path or "/") + (f"?{self.query}" if self.query else "")


def _shown(url: str) -> str:
    """What of a refused one may stand in a message: no user, and nothing behind the host, where secrets may be."""
    begin = _BEGIN.match(url)
    shown = "" if begin is None else (begin[1] or "") + begin[2]
    return shown + ("" if url.endswith(shown) else "…")
