"""Trial inputs: what a component is tried and timed with, the same on both sides. Torch-free."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkroom.bundles.manifest import EngineManifest

Arrays = dict[str, NDArray[Any]]


def trial_inputs(component: str, manifest: EngineManifest, ids: NDArray[np.int64], height: int, width: int) -> Arrays:
    """Inputs by name for one call of a component: the UNet's as one guided image of `height` x `width` pixels has them.

    `ids` int64 [n, max_length] are the token ids of real prompts; all else is drawn from a fixed seed.
    """
    random = np.random.Generator(np.random.Philox(0))
    latents, text = manifest.latents, manifest.text
    size = (height // latents.downscale, width // latents.downscale)
    if component == "text_encoder":
        return {"input_ids": ids}
    if component == "unet" or component.startswith("controlnet_"):
        inputs: Arrays = {
            "latents": random.standard_normal((2, latents.channels, *size), np.float32),
            "timestep": np.array([999.0, 421.5], np.float32),
            "prompt_embeds": random.standard_normal((2, text.max_length, text.embedding_dim), np.float32),
        }
        further: Arrays = {
            "text_embeds": random.standard_normal((2, text.pooled_dim or 0), np.float32),
            "time_ids": np.array([[height, width, 0, 0, height, width]] * 2, np.float32),
            "guidance": np.array([8.5, 1.0], np.float32),
        }
        inputs |= {name: further[name] for name in manifest.conditions}
        if component != "unet":
            return {**inputs, "control_image": random.integers(0, 2, (2, 3, height, width)).astype(np.float32)}
        for residual in manifest.control.residuals if manifest.control else ():
            shape = (2, residual.channels, -(-size[0] // residual.shrink), -(-size[1] // residual.shrink))
            inputs[residual.name] = np.float32(0.1) * random.standard_normal(shape, np.float32)
        return inputs
    if component == "vae_decoder":
        return {"latents": random.standard_normal((1, latents.channels, *size), np.float32) / latents.scaling_factor}
    return {"image": random.uniform(-1, 1, (1, 3, height, width)).astype(np.float32)}
