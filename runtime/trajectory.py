"""One image on its way: latents, sampler table, step index, status."""

from __future__ import annotations

from enum import StrEnum

import numpy as np

from runtime.arrays import Floats
from runtime.samplers import SamplerTable


class Status(StrEnum):
    QUEUED = "queued"  # holds no arrays yet
    STEPPING = "stepping"
    DENOISED = "denoised"  # all steps done, to be decoded
    ENDED = "ended"  # decoded, failed or cancelled; holds no arrays any more


class Trajectory:
    """The state that is carried from step to step; who advances it is the runner's business, when is the batcher's.

    The noise stream is NumPy's Philox generator on the image's seed: first the initial noise, then one draw for each
    step that adds noise. It depends on nothing but the seed, the shape and the sampler.
    """

    def __init__(
        self,
        *,
        request: int,
        index: int,
        seed: int,
        shape: tuple[int, int, int],
        table: SamplerTable,
        guidance_scale: float,
    ) -> None:
        """`shape` is that of the latents: channels, height, width. `request` is the arrival number of its request."""
        self.request = request
        self.index = index
        self.seed = seed
        self.shape = shape
        self.table = table
        # As in diffusers, a guidance scale of at most 1 means no guidance at all.
        self.guided = guidance_scale > 1.0
        self.guidance_scale = guidance_scale if self.guided else 1.0
        self.step = 0
        self.status = Status.QUEUED
        self.last_turn = 0
        self.latents: Floats = _NOTHING
        self.denoised: Floats = _NOTHING
        self.prompt_embeds: Floats = _NOTHING
        self._noise = np.random.Generator(np.random.Philox(seed))

    @property
    def rows(self) -> int:
        return 2 if self.guided else 1

    @property
    def size(self) -> tuple[int, int]:
        return self.shape[1], self.shape[2]

    @property
    def steps_left(self) -> int:
        return self.table.steps - self.step

    def begin(self, prompt_embeds: Floats) -> None:
        """Draw the initial latents. `prompt_embeds` is float32 [rows, L, D]; guided: negative first."""
        self.prompt_embeds = prompt_embeds
        self.latents = self._noise.standard_normal(self.shape, np.float32) * np.float32(self.table.init_noise_sigma)
        self.denoised = np.zeros(self.shape, np.float32)
        self.status = Status.STEPPING

    def draw_noise(self) -> Floats:
        """The noise of the coming step, float32 [C, h, w]; draws nothing where the step adds none."""
        if self.table.needs_noise(self.step):
            return self._noise.standard_normal(self.shape, np.float32)
        return np.zeros(self.shape, np.float32)

    def advance(self, latents: Floats, denoised: Floats) -> None:
        """Take the outcome of one step."""
        self.latents, self.denoised = latents, denoised
        self.step += 1
        if self.steps_left == 0:
            self.status = Status.DENOISED

    def end(self) -> None:
        """Let go of all arrays."""
        self.status = Status.ENDED
        self.latents = self.denoised = self.prompt_embeds = _NOTHING


_NOTHING: Floats = np.empty(0, np.float32)
