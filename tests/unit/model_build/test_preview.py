"""The preview map is the affine map nearest to the decoder."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from model_build.preview import fit

MAP = np.array([[0.2, 0.1, -0.05], [0.0, -0.2, 0.1], [0.1, 0.1, 0.1], [-0.05, 0.05, 0.15], [0.02, -0.01, 0.03]])


def decoder(scaling: float, texture: float) -> Any:
    """Decodes with MAP, each latent to 8x8 pixels, with a texture that averages out over them."""
    checks = texture * np.where(np.indices((128, 128)).sum(axis=0) % 2, 1.0, -1.0)

    def decode(inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        latents = inputs["latents"] * scaling
        assert inputs["latents"].dtype == np.float32
        coarse = np.einsum("nchw,cd->ndhw", latents, MAP[:4]) + MAP[4][:, None, None]
        return [np.repeat(np.repeat(coarse, 8, axis=2), 8, axis=3) + checks]

    return decode


@pytest.mark.parametrize("scaling", [1.0, 0.18215])
def test_an_affine_decoder_is_found_again(scaling: float) -> None:
    found = fit(decoder(scaling, texture=0.01), 4, 8, scaling)
    assert np.abs(np.array(found) - MAP).max() < 0.01


def test_three_decimals_and_the_same_every_time() -> None:
    first, second = (fit(decoder(1.0, 0.0), 4, 8, 1.0) for _ in range(2))
    assert first == second
    assert np.array(first).shape == (5, 3)
    assert all(value == round(value, 3) for row in first for value in row)
    assert "-0.0" not in {str(value) for row in first for value in row}
