"""Edges as OpenCV draws them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.pictures.canny import canny

KINDS = ("noise", "smooth", "blocks", "gradients")


def picture(kind: str, height: int, width: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    noise = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    if kind == "smooth":
        return cv2.GaussianBlur(noise, (7, 7), 2)
    if kind == "blocks":
        coarse = random.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
        return np.ascontiguousarray(np.kron(coarse, np.ones((8, 8, 1), np.uint8))[:height, :width])
    if kind == "gradients":
        coarse = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return noise


@settings(deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    seed=st.integers(0, 2**32 - 1),
    thresholds=st.tuples(st.floats(0, 1000), st.floats(0, 1000)) | st.just((100, 200)),
)
def test_every_pixel_is_opencvs(kind: str, height: int, width: int, seed: int, thresholds: tuple[float, float]) -> None:
    image = picture(kind, height, width, seed)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    for pixels in (image, grey):
        edges = canny(pixels, *thresholds)
        assert edges.dtype == np.uint8
        assert np.array_equal(edges, cv2.Canny(pixels, *thresholds))


@pytest.mark.parametrize("kind", KINDS)
def test_a_large_picture(kind: str) -> None:
    image = picture(kind, 512, 640, 1)
    assert np.array_equal(canny(image, 100, 200), cv2.Canny(image, 100, 200))


def test_colours_of_one_brightness_have_an_edge_between_them() -> None:
    image = np.full((32, 32, 3), (245, 245, 245), np.uint8)
    image[8:24, 8:24] = (253, 252, 180)
    assert canny(image, 100, 200).any()
    assert not canny(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), 100, 200).any()


def test_one_long_winding_edge_is_kept_from_end_to_end() -> None:
    """A spiral that is weak but for its first pixels: every one of them hangs on those."""
    grey = np.full((128, 128), 100, np.uint8)
    low, high = 4, 123
    while high - low > 8:
        grey[low, low - 4 : high] = grey[low:high, high] = grey[high, low:high] = grey[low + 4 : high, low] = 130
        low, high = low + 4, high - 4
    grey[4, :6] = 220
    found = canny(grey, 60, 300)
    assert np.array_equal(found, cv2.Canny(grey, 60, 300))
    assert found.sum() > 255 * 1000


def test_a_flat_picture_has_no_edges() -> None:
    assert not canny(np.full((64, 64), 7, np.uint8), 0, 0).any()
