"""One image on its way: latents, sampler table, step index, status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

import numpy as np

from runtime.arrays import Floats
from runtime.denoising.control import AppliedControl
from runtime.denoising.original import Original
from runtime.denoising.samplers import SamplerTable


class TrajectoryStatus(StrEnum):
    QUEUED = "queued"  # holds no arrays yet
    STEPPING = "stepping"
    DENOISED = "denoised"  # all steps done, to be decoded
    ENDED = "ended"  # decoded, failed or cancelled; holds no arrays any more


class Trajectory:
    """The state that is carried from step to step; who advances it is the runner's business, when is the batcher's.

    The noise stream is NumPy's Philox generator on the image's seed: first the initial noise, then one draw for each
    step that adds noise. It depends on nothing but the seed, the shape and the sampler: a trajectory that enters at a
    later step gets the noise it would have had there.
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
        step: int = 0,
        controls: Sequence[AppliedControl] = (),
    ) -> None:
        """`shape` is that of the latents: channels, height, width. `request` is the arrival number of its request.

        `step` is where it will enter, as far as is known before it begins; `controls` are the ControlNets on it.
        """
        self.request = request
        self.index = index
        self.seed = seed
        self.shape = shape
        self.table = table
        # As in diffusers, a guidance scale of at most 1 means no guidance at all.
        self.guided = guidance_scale > 1.0
        self.guidance_scale = guidance_scale if self.guided else 1.0
        self.step = step
        self.status = TrajectoryStatus.QUEUED
        self.last_turn = 0
        self.latents: Floats = _NOTHING
        self.denoised: Floats = _NOTHING
        self.conditioning: dict[str, Floats] = {}
        self.controls = tuple(controls)
        self._entry = 0
        self._original: Original | None = None
        self._initial_noise: Floats = _NOTHING
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

    def begin(
        self,
        conditioning: Mapping[str, Floats],
        *,
        latents: Floats | None = None,
        step: int | None = None,
        original: Original | None = None,
    ) -> None:
        """Start from noise; or at `step` from `latents`, float32 [C, h, w], as they are before that step, or from
        `original`, noised as is right there.

        `conditioning` holds every other input of the UNet's rows by name, float32 [rows, ...]; guided: negative first.
        """
        self.conditioning = dict(conditioning)
        noise = self._noise.standard_normal(self.shape, np.float32)
        self._entry, self.step = self.step if step is None else step, 0
        self._pass_over(self._entry)
        if original is not None:
            latents = original.entering(self.table, self.step, noise)
            if original.mask is not None:
                self._original, self._initial_noise = original, noise
        self.latents = noise * np.float32(self.table.init_noise_sigma) if latents is None else latents
        self.denoised = np.zeros(self.shape, np.float32)
        self.status = TrajectoryStatus.STEPPING

    def enter(self, latents: Floats, step: int, denoised: Floats | None = None) -> None:
        """Having begun, go on at this later step from `latents` and, where known, the denoised estimate before it."""
        self._pass_over(step)
        self._entry = step if denoised is None else -1
        self.latents = latents
        self.denoised = np.zeros(self.shape, np.float32) if denoised is None else denoised

    def initial_noise(self) -> Floats:
        """What its seed begins with, float32 N(0, 1) [C, h, w]; the noise stream stays where it is."""
        return np.random.Generator(np.random.Philox(self.seed)).standard_normal(self.shape, np.float32)

    def coefficients(self) -> list[float]:
        """The sampler's for the coming step, in the order of `samplers.COLUMNS`."""
        return self.table.row(self.step, first=self.step == self._entry)

    def encoder_noise(self) -> Floats:
        """The noise with which a picture's latents are drawn from the encoder's distribution, float32 [C, h, w].

        Its stream is the seed's own, jumped ahead by 2**128 draws: the noise of the steps does not depend on it.
        """
        return np.random.Generator(np.random.Philox(self.seed).jumped()).standard_normal(self.shape, np.float32)

    def draw_noise(self) -> Floats:
        """The noise of the coming step, float32 [C, h, w]; draws nothing where the step adds none."""
        if self.table.needs_noise(self.step):
            return self._noise.standard_normal(self.shape, np.float32)
        return np.zeros(self.shape, np.float32)

    def _pass_over(self, step: int) -> None:
        """The noise of the steps before `step` is drawn and dropped, so that its own is the one it would have had."""
        while self.step < step:
            self.draw_noise()
            self.step += 1

    def advance(self, latents: Floats, denoised: Floats) -> None:
        """Take the outcome of one step."""
        self.step += 1
        if self._original is not None:
            latents = self._original.keep(latents, self.table, self.step, self._initial_noise)
        self.latents, self.denoised = latents, denoised
        if self.steps_left == 0:
            self.status = TrajectoryStatus.DENOISED

    def end(self) -> None:
        """Let go of all arrays."""
        self.status = TrajectoryStatus.ENDED
        self.latents = self.denoised = self._initial_noise = _NOTHING
        self.conditioning = {}
        self.controls = ()
        self._original = None


_NOTHING: Floats = np.empty(0, np.float32)
