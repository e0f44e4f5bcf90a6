"""The token that says to a server elsewhere who asks: from an environment variable, or a file that may change.

It is read when its holder says so, again and again: a mounted secret may come late, and is replaced in place while
programs run. The token is in no message and no ``repr``. Knows no server and sends nothing.
"""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

from forwardpass.errors import InvalidSettings

log = logging.getLogger(__name__)

ALLOWED = re.compile(r"[!-~]{1,16384}")  # visible ASCII; anything else would break the header, and be quoted by errors


class Token:
    """At most one of ``variable`` and ``file`` is given; with neither there is no token. ``headers`` as last read."""

    def __init__(self, variable: str | None = None, file: Path | None = None) -> None:
        self.headers: dict[str, str] = {}
        self._variable = variable
        self._file = file
        self._problem = ""

    @property
    def missing(self) -> bool:
        """Whether there should be one, and none has been read."""
        return not self.headers and (self._variable is not None or self._file is not None)

    def renew(self) -> dict[str, str]:
        """Read it again, and give the headers; the last one stays where that cannot be done.

        Raises ``InvalidSettings`` where there is none: the variable or the file is missing, or holds no token.
        """
        try:
            self.headers, problem = self._read(), ""
        except InvalidSettings as error:
            if self.missing:
                raise
            problem = error.message
        if problem and problem != self._problem:
            log.warning("%s; the last one is used on", problem)
        self._problem = problem
        return self.headers

    def _read(self) -> dict[str, str]:
        if self._variable is not None:
            return _header(os.environ.get(self._variable, ""), f"the environment variable {self._variable!r}")
        return {} if self._file is None else _header(_text(self._file), str(self._file))


def _header(text: str, where: str) -> dict[str, str]:
    token = text.strip()
    if not token:
        raise InvalidSettings(f"{where}, which should hold a token, is empty or not there")
    if not ALLOWED.fullmatch(token):
        raise InvalidSettings(f"{where} holds no token: it must be one word of visible ASCII, without `Bearer`")
    return {"authorization": f"Bearer {token}"}


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no ASCII text"
        raise InvalidSettings(f"{file}, which should hold a token, cannot be read: {why}") from None
