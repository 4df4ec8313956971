"""A calibration for a bundle that was built without one: to it all prompts are alike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from runtime.bundles.bundle import LoadedBundle
from runtime.cache.calibrated import PromptMap
from tests.unit.runtime.conftest import cache_spec, prompt_map_file

SKIPPED = 5  # of 10 steps of a thousand timesteps
_TIMESTEP = 400.0


def calibrated(bundle: LoadedBundle) -> LoadedBundle:
    """Any image may start from any other's, at this timestep and at none deeper."""
    manifest, levels = bundle.manifest, cache_spec().levels
    sides = {"width": manifest.defaults.width, "height": manifest.defaults.height}
    spec = cache_spec(**sides, levels=[levels[0].model_copy(update={"timestep": _TIMESTEP})])
    size = manifest.text.max_length * manifest.text.embedding_dim
    pixels = sides["width"] * sides["height"] // manifest.latents.downscale**2
    prompts = prompt_map_file(
        prompt_mean=np.zeros(size),
        prompt_basis=np.zeros((size, 1)),
        image_basis=np.zeros((1, manifest.latents.channels * pixels)),
    )
    return replace(bundle, manifest=manifest.model_copy(update={"cache": spec}), prompt_map=PromptMap(prompts))
