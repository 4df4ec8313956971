"""When images go through the autoencoder in tiles, and that tiles leave nothing out."""

from __future__ import annotations

import numpy as np
import pytest

from darkroom.bundles.manifest import LatentSpec
from runtime.denoising.autoencoder import Autoencoder
from runtime.denoising.tiling import in_tiles

SPEC = LatentSpec(channels=4, downscale=8, scaling_factor=0.5, shift_factor=0.1, preview=[])


class LocalEngine:
    """Each latent is eight by eight pixels of its own value; `sides` are the latents' of every call, `most` fits."""

    def __init__(self, most: int = 1000) -> None:
        self.sides: list[tuple[int, ...]] = []
        self.most = most

    def decode(self, latents):
        self.sides.append(latents.shape[2:])
        if max(latents.shape[2:]) > self.most:
            raise MemoryError
        return latents[:, :3].repeat(8, axis=2).repeat(8, axis=3)

    def encode_image(self, image):
        self.sides.append(image.shape[2:])
        found = np.concatenate([image, image[:, :1]], axis=1)[:, :, ::8, ::8]
        return found, found / 4


def latents(height: int, width: int):
    return np.random.Generator(np.random.Philox(0)).standard_normal((4, height, width), np.float32)


@pytest.mark.parametrize(
    ("size", "beyond", "sides"),
    [
        ((96, 96), 768, [(96, 96)]),
        ((96, 97), 768, [(64, 64), (64, 49), (48, 64), (48, 49)]),
        ((8, 112), 768, [(8, 64), (8, 64)]),
        ((8, 113), 768, [(8, 64), (8, 64), (8, 17)]),
        ((64, 64), 1, [(64, 64)]),
        ((128, 128), 0, [(128, 128)]),
    ],
)
def test_only_what_is_larger_is_decoded_in_tiles(size, beyond, sides) -> None:
    engine = LocalEngine()
    given = latents(*size)
    image = Autoencoder(engine, SPEC, beyond).decode(given)
    assert engine.sides == sides
    wanted = (given / np.float32(0.5) + np.float32(0.1))[:3].repeat(8, axis=1).repeat(8, axis=2)
    np.testing.assert_allclose(image, wanted, atol=1e-6)


def test_a_picture_is_encoded_in_tiles_of_the_same_size() -> None:
    engine = LocalEngine()
    picture = np.random.Generator(np.random.Philox(1)).uniform(-1, 1, (3, 512, 800)).astype(np.float32)
    mean, std = Autoencoder(engine, SPEC, 768).encode(picture)
    assert engine.sides == [(512, 512), (512, 416)]
    np.testing.assert_allclose(mean[:3], (picture[:, ::8, ::8] - 0.1) * 0.5, atol=1e-6)
    np.testing.assert_allclose(std[:3], picture[:, ::8, ::8] / 8, atol=1e-6)


def test_where_memory_runs_out_it_is_decoded_in_tiles_then_and_later() -> None:
    engine = LocalEngine(most=80)
    autoencoder = Autoencoder(engine, SPEC, 0)
    for _ in range(2):
        assert autoencoder.decode(latents(16, 96)).shape == (3, 128, 768)
    assert engine.sides == [(16, 96), (16, 64), (16, 48), (16, 64), (16, 48)]
    assert autoencoder.decode(latents(16, 72)).shape == (3, 128, 576)
    assert engine.sides[-1] == (16, 72), "what fits is decoded whole"


def test_a_tile_that_does_not_fit_is_out_of_memory() -> None:
    with pytest.raises(MemoryError):
        Autoencoder(LocalEngine(most=32), SPEC, 0).decode(latents(64, 64))
    with pytest.raises(MemoryError):
        Autoencoder(LocalEngine(most=32), SPEC, 0).decode(latents(64, 128))


def test_tiles_fade_into_each_other() -> None:
    values = iter([1.0, 3.0])
    found = in_tiles(lambda tile: np.full_like(tile, next(values)), np.zeros((1, 1, 4, 12), np.float32), 8, 8)
    assert found[0, 0, 0].tolist() == [1, 1, 1, 1, 1, 1, 1, 2, 3, 3, 3, 3]
