"""The request bodies that only peers need, made from those of ``bench.models``.

instances_00.json …   the sentences as {"instances": [text]}
tiny.f32              the row as little-endian float32
tiny.msgpack          the same bytes under "x" in a MessagePack map
image.multipart       the JPEG as a form with one file
image_base64.json     the JPEG in a V2 request, as base64
"""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path

from bench.peers.peers import BOUNDARY

MAP_WITH_X = b"\x81\xa1x"  # MessagePack: a map of one entry, its key the string "x"


def write(folder: Path) -> None:
    """``folder`` holds the bodies of ``bench.models`` already."""
    for given in folder.glob("text_*.json"):
        text = json.loads(given.read_text())["inputs"][0]["data"]
        (folder / given.name.replace("text", "instances")).write_text(json.dumps({"instances": text}))
    row = json.loads((folder / "plain.json").read_text())["instances"][0]
    tensor = struct.pack(f"<{len(row)}f", *row)
    (folder / "tiny.f32").write_bytes(tensor)
    (folder / "tiny.msgpack").write_bytes(MAP_WITH_X + b"\xc5" + struct.pack(">H", len(tensor)) + tensor)
    jpeg = (folder / "image.jpg").read_bytes()
    (folder / "image.multipart").write_bytes(_form(jpeg))
    (folder / "image_base64.json").write_text(json.dumps(_base64(jpeg)))


def _form(jpeg: bytes) -> bytes:
    named = 'Content-Disposition: form-data; name="instances"; filename="image.jpg"\r\nContent-Type: image/jpeg'
    return f"--{BOUNDARY}\r\n{named}\r\n\r\n".encode() + jpeg + f"\r\n--{BOUNDARY}--\r\n".encode()


def _base64(jpeg: bytes) -> dict[str, object]:
    tensor = {"name": "image", "shape": [1, 1], "datatype": "BYTES", "parameters": {"content_type": "base64"}}
    return {"inputs": [tensor | {"data": [base64.b64encode(jpeg).decode()]}]}
