"""The size nearest to the one that is asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom.bundles.manifest import Limits
from darkroom.sizes import nearest

CRAYON = Limits(min_size=64, max_size=256, max_pixels=256 * 256, multiple_of=16)
WIDE = Limits(min_size=256, max_size=1024, max_pixels=768 * 768, multiple_of=8)
NARROW = Limits(min_size=512, max_size=2048, max_pixels=640 * 640)
SIDES = st.integers(1, 9999)


@pytest.mark.parametrize(
    ("asked", "made"),
    [
        ((128, 128), (128, 128)),
        ((1024, 1024), (128, 128)),
        ((1536, 1024), (144, 96)),
        ((1024, 1792), (96, 176)),
        ((100, 100), (96, 96)),
        ((1000, 1000), (128, 128)),
        ((256, 200), (256, 208)),
        ((8, 8), (64, 64)),
        ((4000, 10), (256, 64)),
    ],
)
def test_sizes_as_clients_ask_for_them(asked: tuple[int, int], made: tuple[int, int]) -> None:
    assert nearest(*asked, CRAYON, 128 * 128) == made


@given(
    SIDES, SIDES, st.sampled_from([CRAYON, Limits(min_size=256, max_size=1024, max_pixels=768 * 768, multiple_of=8)])
)
def test_whatever_is_asked_for_can_be_made(width: int, height: int, limits: Limits) -> None:
    made = nearest(width, height, limits, limits.max_pixels // 2)
    assert all(limits.min_size <= side <= limits.max_size and side % limits.multiple_of == 0 for side in made)
    assert made[0] * made[1] <= limits.max_pixels
    assert nearest(*made, limits, limits.max_pixels // 2) == made


@pytest.mark.parametrize("pixels", [12_000, 12_544, 65_535])
def test_a_square_stays_one(pixels: int) -> None:
    width, height = nearest(1024, 1024, Limits(min_size=64, max_size=256, max_pixels=pixels), pixels)
    assert width == height
