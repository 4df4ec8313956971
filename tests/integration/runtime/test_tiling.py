"""An image decoded and encoded in tiles is what diffusers' own tiling makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL

from darkroom.bundles.manifest import LatentSpec
from model_build.checkpoints.checkpoint import open_checkpoint
from model_build.checkpoints.loading import load
from model_build.graphs.export import component_graph, export
from model_build.proof.psnr import psnr
from runtime.denoising.autoencoder import Autoencoder
from runtime.engines import COMPONENTS, Engine, GraphEngine
from runtime.engines.onnxruntime import load_graphs

SPEC = LatentSpec(channels=4, downscale=8, scaling_factor=0.18215, preview=[])
LATENTS = np.random.Generator(np.random.Philox(3)).standard_normal((4, 128, 88), np.float32)


@pytest.fixture(scope="module")
def pipeline(tiny_checkpoint: Path) -> Any:
    return load(open_checkpoint(str(tiny_checkpoint)))


@pytest.fixture
def vae(pipeline: Any) -> Iterator[AutoencoderKL]:
    vae = pipeline.vae
    vae.tile_sample_min_size, vae.tile_latent_min_size = 512, 64
    with torch.no_grad():
        yield vae
    vae.disable_tiling()


@pytest.fixture(scope="module")
def engine(pipeline: Any, tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """The autoencoder's graphs as ONNX Runtime opens them; the other components are none."""
    folder, checkpoint = tmp_path_factory.mktemp("graphs"), open_checkpoint(str(tiny_checkpoint))
    paths = {name: folder / f"{name}.onnx" for name in ("vae_decoder", "vae_encoder")}
    for name, path in paths.items():
        export(component_graph(name, checkpoint, pipeline), path)
    graphs = load_graphs(paths, {}, 1)
    return GraphEngine(dict.fromkeys(COMPONENTS, graphs["vae_decoder"]), lambda: graphs["vae_encoder"])


def test_decoding_in_tiles(engine: Engine, vae: AutoencoderKL) -> None:
    unscaled = torch.from_numpy(LATENTS)[None] / SPEC.scaling_factor
    wanted = vae.tiled_decode(unscaled).sample[0].numpy()
    found = Autoencoder(engine, SPEC, tile_beyond=768).decode(LATENTS)
    assert found.shape == (3, 1024, 704)
    peak = float(np.abs(wanted).max())
    assert psnr(wanted, found, peak) > 100
    whole = Autoencoder(engine, SPEC, tile_beyond=1024).decode(LATENTS)
    assert psnr(vae.decode(unscaled).sample[0].numpy(), whole, peak) > 100
    assert 20 < psnr(whole, found, peak) < 90, "a tile is normalised by itself"


def test_encoding_in_tiles(engine: Engine, vae: AutoencoderKL) -> None:
    image = np.random.Generator(np.random.Philox(4)).uniform(-1, 1, (3, 640, 776)).astype(np.float32)
    vae.enable_tiling()
    posterior = vae.encode(torch.from_numpy(image)[None]).latent_dist
    mean, std = Autoencoder(engine, SPEC, tile_beyond=768).encode(image)
    for wanted, found in ((posterior.mean, mean), (posterior.std, std)):
        scaled = wanted[0].numpy() * SPEC.scaling_factor
        assert psnr(scaled, found, float(np.abs(scaled).max())) > 60  # diffusers blends the logarithm of the variance
