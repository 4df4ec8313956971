"""The arrays of one step of a batch, gathered before the engine is called.

Right after a call the processor's caches hold the engine's weights, and an operation of NumPy's, however small, takes
up to ten times as long there: on a small checkpoint their number is what a step costs beside the engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from runtime.arrays import Floats
from runtime.denoising.samplers import C_IN, NOISE, TIMESTEP, UPDATES, advance
from runtime.denoising.trajectory import Trajectory


class BatchArrays:
    """What stays as it is from step to step while the same `n` trajectories, of one size, are stepped together.

    A guided trajectory has two rows, (negative, prompt); an unguided one's only row is both, and its scale is 1.
    """

    def __init__(self, batch: Sequence[Trajectory]) -> None:
        self.batch = tuple(batch)
        self.conditioning = {
            name: np.concatenate([t.conditioning[name] for t in batch]) for name in batch[0].conditioning
        }
        counts = np.array([trajectory.rows for trajectory in batch])
        self._counts = counts
        self._prompt = np.cumsum(counts) - 1
        self._negative = self._prompt - counts + 1
        self._scales = np.array([trajectory.guidance_scale for trajectory in batch], np.float32)[:, None, None, None]

    def rows(self, values: Floats) -> Floats:
        """One value of each trajectory, [n, ...] -> one of each of its rows, [rows, ...]."""
        return np.repeat(values, self._counts, axis=0)

    def guided(self, output: Floats) -> Floats:
        """The engine's output, [rows, C, h, w] -> classifier-free guidance's (Ho & Salimans 2022), [n, C, h, w]."""
        negative = output[self._negative]
        guided: Floats = output[self._prompt] - negative
        guided *= self._scales
        guided += negative
        return guided


@dataclass(frozen=True, eq=False)
class StepArrays:
    """A step of `n` trajectories of one size: what the engine takes of them, and what becomes of its output."""

    standing: BatchArrays  # as in the step before, where the batch is the same
    coefficients: Floats  # [n, 10], see `samplers.COLUMNS`
    latents: Floats  # [n, C, h, w]
    denoised: Floats  # [n, C, h, w]
    rows: Floats  # [rows, C, h, w]: the engine's latents
    timesteps: Floats  # [rows]
    noisy: bool  # whether any of them adds noise

    @staticmethod
    def of(standing: BatchArrays) -> StepArrays:
        batch = standing.batch
        tables = [trajectory.coefficients() for trajectory in batch]
        coefficients = np.array(tables, np.float32)
        latents = np.array([trajectory.latents for trajectory in batch])
        return StepArrays(
            standing,
            coefficients,
            latents,
            np.array([trajectory.denoised for trajectory in batch]),
            standing.rows(coefficients[:, C_IN, None, None, None] * latents),
            standing.rows(coefficients[:, TIMESTEP]),
            any(table[NOISE] for table in tables),
        )

    def advance(self, output: Floats) -> Floats:
        """The engine's output, [rows, C, h, w] -> latents and denoised estimates after the step, [2, n, C, h, w].

        The noise of the step is drawn here, after the engine's call: were that to fail, each trajectory would be tried
        again, and the noise is not to be drawn twice.
        """
        noise = np.array([trajectory.draw_noise() for trajectory in self.standing.batch]) if self.noisy else None
        guided = self.standing.guided(output)
        return advance(self.coefficients[:, UPDATES], self.latents, guided, self.denoised, noise)
