"""A bundle's target as calibration needs it: several images at a time, from noise or from given latents."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from model_build.proof.control import no_residuals
from model_build.proof.generation import BundlePipeline, Setting, denoise, noises, token_ids
from model_build.proof.trial import Arrays

Floats = NDArray[np.float32]
_AT_ONCE = 8
_TIMESTEP, _A_NOISE = 0, 5  # columns of the sampler tables


class StepEngine:
    """Images as `setting` says, each of its own prompt and seed; no prompt is encoded twice."""

    def __init__(self, bundle: BundlePipeline, setting: Setting) -> None:
        spec = bundle.manifest.latents
        self._bundle = bundle
        self._setting = setting
        self._scaling = np.float32(spec.scaling_factor)
        self.shape = (spec.channels, setting.height // spec.downscale, setting.width // spec.downscale)
        with safe_open(bundle.tables, "numpy") as tables:
            self._table = tables.get_tensor(f"{setting.sampler}/{setting.steps}")
            self._entries = tables.get_tensor(f"{setting.sampler}/{setting.steps}/entry")
            self._sigma = np.float32(tables.get_tensor(f"{setting.sampler}/init_noise_sigma")[setting.steps - 1])
        self._embeds: dict[str, Floats] = {}

    def steps_of(self, depth: float) -> int:
        return round(depth * self._setting.steps)

    def timestep(self, step: int) -> float:
        return float(self._table[step, _TIMESTEP])

    def clarity(self, step: int) -> float:
        """log(signal / noise) of the latents that a step starts from."""
        signal, noise = self._entries[step]
        return float(np.log(signal / noise))

    def embeds(self, prompts: Sequence[str]) -> Floats:
        """float32 [prompts, L, D]; each is encoded alone, as the runtime does."""
        for prompt in dict.fromkeys(prompts):
            if prompt not in self._embeds:
                ids = token_ids(self._bundle.tokenizer, self._bundle.manifest.text, prompt)
                (self._embeds[prompt],) = self._bundle.component("text_encoder", {"input_ids": ids})
        return np.concatenate([self._embeds[prompt] for prompt in prompts])

    def first_estimates(self, prompts: Sequence[str], seeds: Sequence[int], advance: Callable[[], None]) -> Floats:
        """What the checkpoint thinks of a prompt when it sees only noise: the denoised estimate of the first step,
        without guidance, averaged over `seeds`. float32 [prompts, C * h * w].
        """
        noise = np.stack([self._sigma * next(noises(seed, self.shape)) for seed in seeds])
        timestep, c_in, *_, d_x, d_model, _, _ = self._table[0].astype(np.float32)
        estimates = np.empty((len(prompts), noise[0].size), np.float32)
        each = max(1, 2 * _AT_ONCE // len(seeds))
        for start in range(0, len(prompts), each):
            batch = prompts[start : start + each]
            latents = np.tile(noise, (len(batch), 1, 1, 1))
            feed = {"latents": c_in * latents, "timestep": np.full(len(latents), timestep)}
            output = self._predict(np.repeat(self.embeds(batch), len(seeds), 0), 0, feed)
            estimate = d_x * latents + d_model * output
            estimates[start : start + each] = estimate.reshape(len(batch), len(seeds), -1).mean(1)
            for _ in batch:
                advance()
        return estimates

    def draw(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        step: int = 0,
        images: Sequence[Floats] | None = None,
        *,
        advance: Callable[[], None],
    ) -> tuple[list[Floats], NDArray[np.uint8]]:
        """Final latents and uint8 [n, H, W, 3]: from the seeds' noise, or at `step` from other images' final latents,
        noised by the seeds' noise as is right there.
        """
        finals, drawn = [], []
        for start in range(0, len(prompts), _AT_ONCE):
            rows = slice(start, start + _AT_ONCE)
            given = None if images is None else np.stack(images[rows])
            for latents in self._denoised(prompts[rows], seeds[rows], step, given):
                (image,) = self._bundle.component("vae_decoder", {"latents": latents[None] / self._scaling})
                unit = np.clip(image[0].transpose(1, 2, 0) / 2 + 0.5, 0, 1)
                drawn.append(np.round(unit * 255).astype(np.uint8))
                finals.append(latents)
                advance()
        return finals, np.stack(drawn)

    def _denoised(self, prompts: Sequence[str], seeds: Sequence[int], step: int, images: Floats | None) -> Floats:
        guided = self._setting.guidance > 1
        embeds = self.embeds(prompts)
        if guided:
            embeds = np.concatenate([np.repeat(self.embeds([""]), len(prompts), 0), embeds])
        draws = [noises(seed, self.shape) for seed in seeds]
        initial = _stacked(draws)
        latents, denoised = self._sigma * initial, np.zeros_like(initial)
        if images is not None:
            signal, noise = self._entries[step].astype(np.float32)
            latents, denoised = signal * images + noise * initial, images
        for _ in range(np.count_nonzero(self._table[:step, _A_NOISE])):
            _stacked(draws)  # what the steps left out would have drawn
        guidance, fresh = self._setting.guidance if guided else None, partial(_stacked, draws)
        return denoise(self._table, partial(self._predict, embeds), latents, denoised, fresh, guidance, step)

    def _predict(self, embeds: Floats, _: int, feed: Arrays) -> Floats:
        control = self._bundle.manifest.control
        feed = {**feed, "prompt_embeds": np.ascontiguousarray(embeds)}
        if control is not None:
            feed |= no_residuals(control, feed["latents"])
        (output,) = self._bundle.component("unet", feed)
        return output


def _stacked(draws: Sequence[Iterator[Floats]]) -> Floats:
    return np.stack([next(draw) for draw in draws])
