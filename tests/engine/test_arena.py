"""Memory that two processes share: regions do not overlap, and nothing is left behind."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwardpass.engine.arena import ALIGNMENT, KEEP, SIZE, Arena


@pytest.fixture
def arena() -> Arena:
    made = Arena.create()
    if made is None:
        pytest.skip("this system has no anonymous shared files")
    return made


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 100_000), max_size=20))
def test_regions_are_aligned_and_do_not_overlap(sizes: list[int]) -> None:
    arena = Arena.create()
    assert arena is not None
    end = 0
    for size in sizes:
        offset = arena.allocate(size)
        assert offset is not None
        assert offset % ALIGNMENT == 0
        assert offset >= end
        end = offset + size
    arena.close()


def test_both_sides_see_the_same_bytes(arena: Arena) -> None:
    assert arena.fd is not None
    other = Arena(os.dup(arena.fd))
    offset = arena.allocate(5)
    assert offset is not None
    arena.view(offset, 5)[:] = np.frombuffer(b"hello", np.uint8)
    assert other.view(offset, 5).tobytes() == b"hello"


def test_what_does_not_fit_is_refused_and_the_rest_stays_usable(arena: Arena) -> None:
    assert arena.allocate(SIZE + 1) is None
    assert arena.allocate(SIZE) == 0
    assert arena.allocate(1) is None
    arena.reset()
    assert arena.allocate(1) == 0


def test_large_batches_give_their_memory_back(arena: Arena) -> None:
    assert arena.fd is not None
    for _ in range(2):
        offset = arena.allocate(2 * KEEP)
        assert offset == 0
        arena.view(offset, 2 * KEEP)[:] = 1
        assert os.stat(arena.fd).st_blocks * 512 >= 2 * KEEP
        arena.reset()
        assert os.stat(arena.fd).st_blocks * 512 < KEEP


def test_a_view_outlives_its_arena(arena: Arena) -> None:
    offset = arena.allocate(4)
    assert offset is not None
    view = arena.view(offset, 4)
    view[:] = 7
    arena.close()
    del arena
    assert view.tolist() == [7, 7, 7, 7]
