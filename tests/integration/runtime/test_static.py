"""The UNet compiled for single shapes against the one for all, on the tiny bundle with its real engine."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from darkroom.storage.directory import DirectoryStore
from runtime.bundles.bundle import Bundle, fetch_bundle, kept_graphs, static_shapes
from runtime.bundles.hardware import this_machine
from runtime.engines import Engine, open_engine


@pytest.fixture
def bundle(tiny_store: Path, tmp_path: Path) -> Bundle:
    return fetch_bundle(DirectoryStore(tiny_store), "tiny", None, "openvino-fp32", this_machine(), tmp_path)


def predict(engine: Engine, rows: int, side: int = 8) -> np.ndarray:
    numbers = np.random.default_rng(rows)
    embeds = np.repeat(engine.encode(np.ones((1, 77), np.int64))["prompt_embeds"], rows, axis=0)
    latents = numbers.standard_normal((rows, 4, side, side)).astype(np.float32)
    return engine.predict(latents, np.linspace(10, 900, rows).astype(np.float32), prompt_embeds=embeds)


def test_results_differ_by_no_more_than_rounding(bundle: Bundle, tmp_path: Path) -> None:
    opener = partial(open_engine, bundle.target, bundle.files, 1)
    static = static_shapes(bundle, 1, 4, 512)
    found = {name: (shapes.row["latents"], shapes.rows) for name, shapes in static.items()}
    assert found == {"unet": ((4, 8, 8), [2, 4]), "vae_decoder": ((4, 8, 8), [1])}
    plain, shaped = opener(), opener(static=static)
    for rows, side in ((2, 8), (4, 8), (1, 8), (6, 8), (2, 4)):
        wanted = predict(plain, rows, side)
        np.testing.assert_allclose(predict(shaped, rows, side), wanted, atol=1e-4 * np.abs(wanted).max())
    first = predict(shaped, 2)
    predict(shaped, 6)
    assert np.array_equal(predict(shaped, 2), first)
    for side in (8, 4):
        latents = np.random.default_rng(side).standard_normal((1, 4, side, side)).astype(np.float32)
        np.testing.assert_allclose(shaped.decode(latents), plain.decode(latents), atol=1e-4)


def test_graphs_of_each_shape_are_kept_for_the_next_start(bundle: Bundle, tmp_path: Path) -> None:
    drawn = []
    for _ in range(2):
        kept, static = kept_graphs(bundle, this_machine(), tmp_path, 256), static_shapes(bundle, 1, 4, 512)
        engine = open_engine(bundle.target, bundle.files, 1, kept=kept, static=static)
        drawn.append([predict(engine, rows).tobytes() for rows in (2, 4, 6)])
        names = [path.name.partition("-")[0] for path in (tmp_path / "compiled").iterdir()]
        assert sorted(names) == ["text_encoder", "unet", "unet", "unet", "vae_decoder"]
    assert drawn[0] == drawn[1]


def test_no_memory_for_them_and_no_openvino_is_none(bundle: Bundle, tiny_store: Path, tmp_path: Path) -> None:
    assert static_shapes(bundle, 1, 8, 0) == {}
    onnx = fetch_bundle(DirectoryStore(tiny_store), "tiny", None, "onnx-cpu", this_machine(), tmp_path / "onnx")
    assert static_shapes(onnx, 1, 8, 512) == {}


def test_a_size_that_is_decoded_in_tiles_has_no_decoder_of_its_own(bundle: Bundle) -> None:
    assert list(static_shapes(bundle, 1, 8, 512, tile_beyond=64)) == ["unet", "vae_decoder"]
    assert list(static_shapes(bundle, 1, 8, 512, tile_beyond=63)) == ["unet"]
