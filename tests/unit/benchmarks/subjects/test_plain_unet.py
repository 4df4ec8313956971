"""The UNet that a benchmark compares with computes what the bundle's does without control."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.subjects.plain_unet import open_plain_unet
from darkroom.storage import open_store
from model_build.proof.control import no_residuals
from runtime.bundles.bundle import fetch_bundle, load_bundle
from runtime.bundles.hardware import this_machine


@pytest.mark.parametrize("size", [(8, 8), (9, 13)])
def test_it_is_the_unet_without_residuals(controlled_store: Path, tmp_path: Path, size: tuple[int, int]) -> None:
    store = open_store(str(controlled_store))
    bundle = fetch_bundle(store, "controlled", None, "openvino-fp32", this_machine(), tmp_path)
    assert bundle.manifest.control is not None
    random = np.random.default_rng(0)
    latents = random.standard_normal((3, 4, *size), np.float32)
    timestep = np.array([1, 500, 999], np.float32)
    embeds = random.standard_normal((3, 77, 32), np.float32)
    zeros = no_residuals(bundle.manifest.control, latents)
    wanted = load_bundle(bundle, 1).engine.predict(latents, timestep, prompt_embeds=embeds, **zeros)
    plain = open_plain_unet(bundle, 1)
    output = plain({"latents": latents, "timestep": timestep, "prompt_embeds": embeds})
    assert np.abs(output - wanted).max() < 1e-4 * np.abs(wanted).max()
