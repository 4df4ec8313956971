"""Finished images asked for again."""

from __future__ import annotations

import pytest

from darkroom.contracts import GeneratedImage
from runtime.cache.entry import Damaged
from runtime.cache.repeats import Finished, Repeats

IMAGE = GeneratedImage(
    key="images/a/0.png", seed=1, width=8, height=8, content_type="image/png", size=3, sha256="0" * 64
)


def test_the_longest_unused_are_forgotten() -> None:
    repeats = Repeats(2)
    repeats.add(Finished("a", IMAGE))
    repeats.add(Finished("b", IMAGE))
    assert repeats.find("a") == IMAGE
    repeats.add(Finished("c", IMAGE))
    assert (repeats.find("b"), repeats.find("a"), len(repeats)) == (None, IMAGE, 2)
    repeats.forget("a")
    repeats.forget("a")
    assert repeats.find("a") is None


def test_a_record_comes_back_or_is_damaged() -> None:
    packed = Finished("a", IMAGE).pack()
    assert Finished.unpack(packed) == Finished("a", IMAGE)
    for place in range(0, len(packed), 7):
        harmed = bytearray(packed)
        harmed[place] ^= 4
        with pytest.raises(Damaged):
            Finished.unpack(bytes(harmed))
