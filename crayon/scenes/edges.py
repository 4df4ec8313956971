"""Edge maps, and how well the edges of two pictures agree."""

import cv2
import numpy as np
from numpy.typing import NDArray

# The field's customary thresholds for ControlNet's edge maps.
LOW_THRESHOLD, HIGH_THRESHOLD = 100, 200
TOLERANCE = 2.0


def canny(image: NDArray[np.uint8], low: int = LOW_THRESHOLD, high: int = HIGH_THRESHOLD) -> NDArray[np.bool_]:
    """Canny edges of uint8 (height, width, 3): bool (height, width); each pixel's strongest channel counts."""
    return cv2.Canny(np.ascontiguousarray(image), low, high) > 0


def control_image(edges: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Edges as ControlNets want them: white on black, uint8 (height, width, 3)."""
    return np.repeat(edges[..., None], 3, axis=-1).astype(np.uint8) * 255


def edge_agreement(first: NDArray[np.bool_], second: NDArray[np.bool_], tolerance: float = TOLERANCE) -> float:
    """F1 of two edge maps, bool (height, width): an edge pixel counts if the other map has one within `tolerance`.

    Distances are Euclidean, in pixels. Two empty maps agree (1), an empty and any other do not (0).
    """
    if not first.any() or not second.any():
        return float(first.any() == second.any())
    precision = float(np.mean(_distance_to(first)[second] <= tolerance))
    recall = float(np.mean(_distance_to(second)[first] <= tolerance))
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _distance_to(edges: NDArray[np.bool_]) -> NDArray[np.float32]:
    elsewhere = (~edges).astype(np.uint8)
    return cv2.distanceTransform(elsewhere, cv2.DIST_L2, cv2.DIST_MASK_PRECISE).astype(np.float32)
