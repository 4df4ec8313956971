"""Generation: one image from a bundle, step by step as the runtime makes it, and what both sides are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from tokenizers import Tokenizer

from darkroom.bundles.manifest import EngineManifest, TextSpec
from model_build.compile.formats import engine_format
from model_build.proof.control import ControlSetting, residuals
from model_build.proof.trial import Arrays

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Setting:
    """One image to make; width and height in pixels."""

    prompt: str
    width: int
    height: int
    steps: int
    guidance: float
    sampler: str
    seed: int = 0
    controls: tuple[ControlSetting, ...] = ()


def control_settings(setting: Setting, types: Sequence[str]) -> list[Setting]:
    """The images with control that are compared: each ControlNet in all steps; several also together, in a part of
    them.
    """
    each = [replace(setting, controls=(ControlSetting(kind),)) for kind in types]
    if len(types) < 2:
        return each
    together = tuple(ControlSetting(kind, 0.7, 0.25 * (index % 2), 0.75) for index, kind in enumerate(types))
    return [*each, replace(setting, controls=together)]


def noises(seed: int, shape: tuple[int, ...]) -> Iterator[Floats]:
    """The noise of one image, float32 N(0, 1): first its initial latents, then a draw for each step that needs one."""
    random = np.random.Generator(np.random.Philox(seed))
    while True:
        yield random.standard_normal(shape, np.float32)


def token_ids(tokenizer: Path, text: TextSpec, *prompts: str) -> NDArray[np.int64]:
    """Token ids int64 [prompts, max_length]: begin, the prompt as far as it fits, end, padding."""
    reader = Tokenizer.from_file(str(tokenizer))
    reader.no_truncation()
    reader.no_padding()
    ids = np.full((len(prompts), text.max_length), text.pad_token_id, np.int64)
    for row, prompt in zip(ids, prompts, strict=True):
        words = reader.encode(prompt, add_special_tokens=False).ids[: text.max_length - 2]
        row[: len(words) + 2] = [text.bos_token_id, *words, text.eos_token_id]
    return ids


def denoise(
    table: NDArray[np.float64],
    predict: Callable[[int, Arrays], Floats],
    latents: Floats,
    denoised: Floats,
    noise: Callable[[], Floats],
    guidance: float | None,
    start: int = 0,
) -> Floats:
    """The final latents of images [n, C, h, w] that enter before step `start` of a sampler's table.

    `predict(step, inputs)` gives the UNet's output for latents and timesteps of n rows; with `guidance` of 2 n, those
    of the negative prompt first. `noise` is called at each step that needs some.
    """
    for step, (timestep, c_in, *a, d_x, d_model, d_denoised, _) in enumerate(table[start:].astype(np.float32), start):
        rows = np.concatenate([c_in * latents] * (1 if guidance is None else 2))
        output = predict(step, {"latents": rows, "timestep": np.full(len(rows), timestep)})
        if guidance is not None:
            negative, positive = np.split(output, 2)
            output = negative + np.float32(guidance) * (positive - negative)
        fresh = noise() if a[3] else np.zeros_like(latents)
        latents, denoised = (
            a[0] * latents + a[1] * output + a[2] * denoised + a[3] * fresh,
            d_x * latents + d_model * output + d_denoised * denoised,
        )
    return latents


class BundlePipeline:
    """A target's engines with the bundle's tokenizer and sampler tables; torch-free.

    `files` maps the bundle's paths to local files.
    """

    def __init__(self, manifest: EngineManifest, target_name: str, files: Mapping[str, Path], threads: int) -> None:
        target = next(target for target in manifest.targets if target.name == target_name)
        engines = engine_format(target.format)
        self.manifest = manifest
        self.engines = {
            component: engines.open_component(files[path], target.options, threads)
            for component, path in target.components.items()
        }
        self.tokenizer = files[manifest.text.tokenizer]
        self.tables = files[manifest.samplers.tables]

    def component(self, name: str, inputs: Arrays) -> list[NDArray[Any]]:
        """One component's outputs, in its graph's order."""
        return self.engines[name](inputs)

    def generate(self, setting: Setting) -> Floats:
        """An image [height, width, 3] in [0, 1]."""
        spec = self.manifest.latents
        guided = setting.guidance > 1 and not self.manifest.guidance_is_an_input
        given = self._conditioning(setting, guided=guided)
        with safe_open(self.tables, "numpy") as tables:
            table = tables.get_tensor(f"{setting.sampler}/{setting.steps}")
            sigma = tables.get_tensor(f"{setting.sampler}/init_noise_sigma")[setting.steps - 1]
        draws = noises(
            setting.seed, (1, spec.channels, setting.height // spec.downscale, setting.width // spec.downscale)
        )
        latents = np.float32(sigma) * next(draws)
        size, controls = (setting.width, setting.height), setting.controls

        def predict(step: int, feed: Arrays) -> Floats:
            feed = {**feed, **given}
            feed |= residuals(self.manifest.control, self.engines, controls, step, setting.steps, size, feed)
            (output,) = self.engines["unet"](feed)
            return output

        guidance = setting.guidance if guided else None
        latents = denoise(table, predict, latents, np.zeros_like(latents), lambda: next(draws), guidance)
        (image,) = self.engines["vae_decoder"]({"latents": latents / np.float32(spec.scaling_factor)})
        pixels: Floats = np.clip(image[0].transpose(1, 2, 0) / 2 + 0.5, 0, 1)
        return pixels

    def _conditioning(self, setting: Setting, *, guided: bool) -> Arrays:
        """What the UNet takes besides latents and timestep; with guidance the empty prompt has the first row."""
        prompts = ("", setting.prompt) if guided else (setting.prompt,)
        ids = token_ids(self.tokenizer, self.manifest.text, *prompts)
        outputs = self.engines["text_encoder"]({"input_ids": ids})
        conditioning: Arrays = dict(zip(("prompt_embeds", "text_embeds"), outputs, strict=False))
        if guided and self.manifest.text.zero_negative:
            conditioning = {
                name: np.concatenate([np.zeros_like(value[:1]), value[1:]]) for name, value in conditioning.items()
            }
        size = np.array([setting.height, setting.width], np.float32)
        conditioning["time_ids"] = np.tile(np.concatenate([size, np.zeros(2, np.float32), size]), (len(prompts), 1))
        conditioning["guidance"] = np.full(len(prompts), setting.guidance, np.float32)
        return {name: conditioning[name] for name in ("prompt_embeds", *self.manifest.conditions)}
