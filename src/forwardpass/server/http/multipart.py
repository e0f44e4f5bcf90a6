"""Forms with files (``multipart/form-data``), as far as one small endpoint needs them.

The whole body is in memory already; it is cut at its boundary, nothing is decoded or guessed.
"""

from __future__ import annotations

from dataclasses import dataclass
from email.message import Message
from email.parser import BytesHeaderParser

from forwardpass.errors import InvalidInput


@dataclass(frozen=True)
class Field:
    """One field of a form; ``filename`` is empty where it is no file."""

    content: bytes
    filename: str


def read_form(content_type: str, body: bytes) -> dict[str, Field]:
    """The fields by name, the last of each. Raises ``InvalidInput`` where it is no such form."""
    header = Message()
    header["content-type"] = content_type
    boundary = header.get_param("boundary")
    if header.get_content_type() != "multipart/form-data" or not isinstance(boundary, str) or not boundary:
        raise InvalidInput("send a form, with `content-type: multipart/form-data; boundary=…`")
    pieces = (b"\r\n" + body).split(b"\r\n--" + boundary.encode())
    if len(pieces) < 2 or not pieces[-1].startswith(b"--"):
        raise InvalidInput("the form is cut off: its last boundary is missing")
    return dict(map(_field, pieces[1:-1]))


def _field(piece: bytes) -> tuple[str, Field]:
    head, empty, content = piece.removeprefix(b"\r\n").partition(b"\r\n\r\n")
    headers = BytesHeaderParser().parsebytes(head)
    name, filename = (headers.get_param(key, "", "content-disposition") for key in ("name", "filename"))
    if not empty or not isinstance(name, str) or not name:
        raise InvalidInput("a field of the form has no name")
    return name, Field(content, filename if isinstance(filename, str) else "")
