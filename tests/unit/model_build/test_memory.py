"""Freed memory goes back to the system."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from model_build.memory import give_back

PIECE, PIECES = 64 << 10, 2_000  # below what malloc maps by itself


def resident() -> int:
    """Bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library has no malloc_trim")
def test_what_lies_between_things_that_stay_is_given_back() -> None:
    pieces = [bytearray(b"x" * PIECE) for _ in range(PIECES)]
    kept = pieces[::50]
    full = resident()
    pieces.clear()
    give_back()
    assert full - resident() > PIECE * PIECES / 2
    assert all(piece[-1] == ord("x") for piece in kept)
