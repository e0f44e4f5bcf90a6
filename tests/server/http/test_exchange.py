"""Compressed bodies: unpacked whole or refused."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwardpass.errors import InvalidInput, TooLarge
from forwardpass.server.http.exchange import decompressed

PACK: dict[bytes, Callable[..., bytes]] = {b"gzip": gzip.compress, b"deflate": zlib.compress}


@given(st.sampled_from(sorted(PACK)), st.binary(max_size=200))
def test_there_and_back(coding: bytes, body: bytes) -> None:
    packed = PACK[coding](body)
    assert decompressed(packed, coding, len(body)) == body
    with pytest.raises(InvalidInput, match="cut off"):
        decompressed(packed[:-1], coding, 200)
    with pytest.raises(InvalidInput, match="1 bytes come after"):
        decompressed(packed + b"!", coding, 200)


@pytest.mark.parametrize("coding", sorted(PACK))
def test_the_limit_is_on_what_comes_out(coding: bytes) -> None:
    packed = PACK[coding](bytes(1000))
    assert len(decompressed(packed, coding, 1000)) == 1000
    with pytest.raises(TooLarge, match="999 bytes"):
        decompressed(packed, coding, 999)


@pytest.mark.parametrize("coding", [b"", b"identity"])
def test_no_coding(coding: bytes) -> None:
    assert decompressed(b"as it is", coding, 3) == b"as it is"


def test_what_is_not_packed() -> None:
    with pytest.raises(InvalidInput, match="not valid gzip"):
        decompressed(b"plain", b"gzip", 100)
    with pytest.raises(InvalidInput, match="'zstd' is not known; use gzip"):
        decompressed(b"plain", b"zstd", 100)
