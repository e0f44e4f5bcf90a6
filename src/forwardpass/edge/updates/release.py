"""A release: which bundle a device of a channel should run, and the chunks it is made of.

One signed file for each channel, target and model. Knows neither how it is signed nor how it travels.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated

import msgspec

from forwardpass.errors import InvalidModel, InvalidSettings

FORMAT = 1
MOST_BYTES = 8 << 20  # of a release; 256 KiB a chunk, that is for bundles of more than 10 GB
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")  # of a channel, target or model

Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
Size = Annotated[int, msgspec.Meta(ge=0)]


class Chunk(msgspec.Struct, frozen=True, omit_defaults=True):
    """A stretch of the bundle. A short one is in the release itself (``inline``): cheaper than asking for it."""

    sha256: Digest
    size: Size
    inline: bytes | None = None


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """``manifest`` is the SHA-256 of the bundle's manifest: what is in it, however it is packed and signed.

    ``size`` (bytes) and ``sha256`` are those of the bundle's file, which is its ``chunks`` one after the other.
    ``published`` is when, in UTC, by the publisher's clock.
    """

    name: str
    model: str
    version: str
    target: str
    size: Size
    sha256: Digest
    manifest: Digest
    chunks: tuple[Chunk, ...]
    published: datetime
    format: int = FORMAT

    def __str__(self) -> str:
        return f"{self.model} {self.version} for {self.target}"


def release_path(channel: str, target: str, model: str) -> str:
    """Where the release lies among the targets. Raises ``InvalidSettings`` for a name that cannot be part of it."""
    for what, name in (("channel", channel), ("target", target), ("model", model)):
        if not NAME.fullmatch(name):
            raise InvalidSettings(
                f"{what} {name[:100]!r} cannot be published under: use letters, digits, '.', '_' and '-'"
            )
    return f"{channel}/{target}/{model}.json"


def encode_release(release: Release) -> bytes:
    return msgspec.json.encode(release, order="sorted")


def decode_release(content: bytes) -> Release:
    """Raises ``InvalidModel`` where it is none, or one that is too new for this device."""
    try:
        written = msgspec.json.decode(content, type=dict[str, msgspec.Raw]).get("format")
        if written is not None and bytes(written) != b"%d" % FORMAT:
            told = bytes(written)[:20].decode(errors="replace")
            raise InvalidModel(
                f"the release has format {told}, and this device knows {FORMAT}: update Forwardpass on the device first"
            )
        release = msgspec.json.decode(content, type=Release)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidModel(f"the release cannot be read: {error}") from None
    if sum(chunk.size for chunk in release.chunks) != release.size:
        raise InvalidModel(f"the release of {release} has chunks of another size than its bundle")
    if release.published.tzinfo is None:
        return msgspec.structs.replace(release, published=release.published.replace(tzinfo=UTC))
    return release
