"""Edge maps and their agreement, on cases whose answer is known."""

import numpy as np
import pytest
from numpy.typing import NDArray

from crayon.scenes.edges import canny, control_image, edge_agreement


def line(row: int, start: int = 10, stop: int = 50) -> NDArray[np.bool_]:
    edges = np.zeros((64, 64), bool)
    edges[row, start:stop] = True
    return edges


@pytest.mark.parametrize(("shift", "agreement"), [(0, 1.0), (1, 1.0), (2, 1.0), (3, 0.0), (20, 0.0)])
def test_a_moved_line_agrees_within_two_pixels(shift: int, agreement: float) -> None:
    assert edge_agreement(line(10), line(10 + shift)) == agreement


def test_distance_is_euclidean() -> None:
    first, second = np.zeros((16, 16), bool), np.zeros((16, 16), bool)
    first[4, 4] = second[6, 6] = True
    assert edge_agreement(first, second) == 0.0
    assert edge_agreement(first, second, tolerance=3.0) == 1.0


def test_half_a_line_has_full_precision_and_half_recall() -> None:
    # 20 of 40 pixels are there, and two more lie within two pixels of their end: recall 22 / 40, precision 1.
    agreement = edge_agreement(line(10), line(10, stop=30))
    assert agreement == pytest.approx(2 * 0.55 / 1.55)


def test_agreement_does_not_depend_on_order() -> None:
    both = line(10) | line(40)
    assert edge_agreement(line(10), both) == edge_agreement(both, line(10)) == pytest.approx(2 / 3)


def test_empty_maps() -> None:
    nothing = np.zeros((64, 64), bool)
    assert edge_agreement(nothing, nothing) == 1.0
    assert edge_agreement(line(10), nothing) == edge_agreement(nothing, line(10)) == 0.0


def test_canny_finds_a_square_by_any_channel() -> None:
    image = np.full((64, 64, 3), 200, np.uint8)
    image[20:44, 20:44, 2] = 40
    edges = canny(image)
    outline = np.zeros((64, 64), bool)
    outline[20:44, 20:44] = True
    outline[21:43, 21:43] = False
    assert edge_agreement(edges, outline) == 1.0
    assert not canny(np.full((64, 64, 3), 200, np.uint8)).any()
    faint = image.copy()
    faint[20:44, 20:44, 2] = 180
    assert not canny(faint).any()
    assert canny(faint, 20, 40).any()


def test_control_image_is_white_on_black() -> None:
    image = control_image(line(10))
    assert image.shape == (64, 64, 3)
    assert image.dtype == np.uint8
    assert image.sum() == 40 * 3 * 255
