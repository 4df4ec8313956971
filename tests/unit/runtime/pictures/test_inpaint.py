"""What a mask leaves alone."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from runtime.pictures.inpaint import REACH, paste, redrawn
from runtime.pictures.inputs import Inputs


def masked(*boxes: tuple[int, int, int, int], size: int = 48) -> np.ndarray:
    mask = np.zeros((size, size), np.uint8)
    for top, left, bottom, right in boxes:
        mask[top:bottom, left:right] = 255
    return mask


BOXES = st.tuples(st.integers(0, 47), st.integers(0, 47), st.integers(1, 48), st.integers(1, 48))


@given(box=BOXES, seed=st.integers(0, 99))
def test_nothing_changes_out_of_the_masks_reach_and_all_within_the_mask(box: tuple[int, ...], seed: int) -> None:
    mask = masked(box)
    picture, made = np.random.default_rng(seed).integers(0, 256, (2, 48, 48, 3), np.uint8)
    pasted = paste(picture, made, mask)
    top, left, bottom, right = box
    reach = masked((max(0, top - REACH), max(0, left - REACH), bottom + REACH, right + REACH)) > 0
    if not mask.any():
        reach[:] = False
    np.testing.assert_array_equal(pasted[~reach], picture[~reach])
    np.testing.assert_array_equal(pasted[mask > 0], made[mask > 0])


def test_it_fades_over_the_reach() -> None:
    picture, made = np.zeros((48, 48, 3), np.uint8), np.full((48, 48, 3), 255, np.uint8)
    line = paste(picture, made, masked((10, 10, 20, 20)))[15, 18:26, 0].tolist()
    assert line == [255, 255, 204, 153, 102, 51, 0, 0]


def test_latents_are_drawn_again_where_any_pixel_of_theirs_may_change() -> None:
    cells = redrawn(masked((9, 9, 15, 15)), 8)
    assert (cells.shape, cells.dtype) == ((1, 6, 6), np.float32)
    assert np.argwhere(cells[0]).tolist() == [[row, column] for row in range(3) for column in range(3)]
    assert not redrawn(masked(), 8).any()


def test_without_a_mask_an_image_is_what_was_decoded() -> None:
    made = np.zeros((8, 8, 3), np.uint8)
    assert Inputs().finish(made) is made
    assert Inputs(picture=made).finish(made) is made
