"""The runtime against diffusers: the same prompt and initial latents, every sampler."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from model_build import samplers

SAMPLERS = ["ddim", "euler", "euler_a", "dpmpp_2m", "lcm"]
SEED = 5
SHAPE = (4, 8, 8)


@pytest.fixture(scope="module")
def pipeline(tiny_checkpoint: Path) -> StableDiffusionPipeline:
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_checkpoint, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture
def reference(pipeline: StableDiffusionPipeline):
    """What diffusers makes with our noise: uint8 [H, W, 3]."""
    config = dict(pipeline.scheduler.config)

    def reference(sampler: str, steps: int, scale: float, prompt: str, negative: str) -> np.ndarray:
        stream = np.random.Generator(np.random.Philox(SEED))

        def noise(*_: object) -> torch.Tensor:
            return torch.from_numpy(stream.standard_normal(SHAPE, np.float32))[None]

        pipeline.scheduler = samplers.create(sampler, config, steps)
        initial = noise()
        with samplers.replaced_noise(noise):
            image = pipeline(
                prompt,
                negative_prompt=negative,
                num_inference_steps=steps,
                guidance_scale=scale,
                latents=initial,
                output_type="np",
            ).images[0]
        return (image * 255).round().astype(np.uint8)

    return reference


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    error = np.mean((one.astype(np.float64) - other.astype(np.float64)) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def make(service, admit, **fields: object) -> np.ndarray:
    pixels = []
    service.loop._deliver = lambda _, images: pixels.extend(images)
    admit(service, seed=SEED, **fields)
    while service.loop.turn():
        pass
    return pixels[0]


@pytest.mark.parametrize("target", ["openvino-fp32", "onnx-cpu"])
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize(("steps", "scale", "negative"), [(8, 5.0, ""), (5, 1.0, ""), (13, 7.5, "a cat")])
def test_the_image_is_that_of_diffusers(
    load, serve, admit, reference, target: str, sampler: str, steps: int, scale: float, negative: str
) -> None:
    prompt = "a red cat on a blue background"
    fields = {"num_inference_steps": steps, "guidance_scale": scale, "negative_prompt": negative}
    ours = make(serve(load(target)), admit, prompt=prompt, sampler=sampler, **fields)
    assert psnr(ours, reference(sampler, steps, scale, prompt, negative)) >= 40
