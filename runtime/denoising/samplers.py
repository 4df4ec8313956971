"""Samplers as tables: one step of any of them is one linear update per row, with coefficients from the bundle.

The build stage obtains the coefficients by probing diffusers' own schedulers, so no solver is written twice. With
latents x, the denoised estimate d of the step before, the engine's output m and fresh noise n:

    m  = engine(c_in * x, timestep)
    x' = a_x * x + a_model * m + a_denoised * d + a_noise * n
    d' = d_x * x + d_model * m + d_denoised * d + d_noise * n
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from darkroom.bundles.manifest import SamplerSpec
from darkroom.errors import EngineIntegrity
from runtime.arrays import Doubles, Floats

COLUMNS = ("timestep", "c_in", "a_x", "a_model", "a_denoised", "a_noise", "d_x", "d_model", "d_denoised", "d_noise")
TIMESTEP, C_IN, NOISE = (COLUMNS.index(name) for name in ("timestep", "c_in", "a_noise"))
UPDATES = slice(COLUMNS.index("a_x"), len(COLUMNS))
A_DENOISED, _D_X, _D_DENOISED = (COLUMNS.index(name) for name in ("a_denoised", "d_x", "d_denoised"))


@dataclass(frozen=True, eq=False)
class SamplerTable:
    """One sampler at one number of steps: `coefficients` is float64 [steps, 10], see `COLUMNS`.

    `entries`, float64 [steps, 2], is how much of a picture and of noise there is in the latents before each step;
    `first`, float64 [steps, 8], is the update of each step where there is no denoised estimate before it, None where it
    is that of `coefficients`. Bundles built before image-to-image have neither.
    """

    coefficients: Doubles
    init_noise_sigma: float
    entries: Doubles | None = None
    first: Doubles | None = None

    @property
    def steps(self) -> int:
        return len(self.coefficients)

    def timestep(self, step: int) -> float:
        return float(self.coefficients[step, TIMESTEP])

    def input_scale(self, step: int) -> float:
        """c_in: what latents are multiplied with before they enter the engine."""
        return float(self.coefficients[step, C_IN])

    def needs_noise(self, step: int) -> bool:
        return bool(self.coefficients[step, NOISE])

    def looks_back(self, step: int) -> bool:
        """Whether the coming step uses the denoised estimate of the one before."""
        return bool(self.coefficients[step, A_DENOISED] or self.coefficients[step, _D_DENOISED])

    def marginal(self, step: int) -> tuple[float, float]:
        """(signal, noise): before this step, latents x of an image x0 are signal * x0 + noise * n, with n ~ N(0, 1).

        Without `entries` it is read off the denoised estimate d = d_x * x + ...: on c_in * x, whose variance is
        preserved, its coefficient is alpha for v-prediction (x0 = alpha * x - sigma * m) and 1 / alpha for epsilon
        (x0 = (x - sigma * m) / alpha).
        """
        if self.entries is not None:
            signal, noise = self.entries[step].tolist()
            return signal, noise
        c_in = self.input_scale(step)
        coefficient = abs(float(self.coefficients[step, _D_X])) / c_in
        alpha = min(coefficient, 1 / coefficient) if coefficient else 0.0
        return alpha / c_in, math.sqrt(1 - alpha**2) / c_in

    def row(self, step: int, *, first: bool = False) -> list[float]:
        """The coefficients of this step, in the order of `COLUMNS`; `first`: it is the first that is run."""
        row: list[float] = self.coefficients[step].tolist()
        if first and self.first is not None:
            row[UPDATES] = self.first[step].tolist()
        return row


class SamplerTables:
    """All samplers of a bundle, for every number of steps up to its maximum."""

    def __init__(self, serialized: bytes, spec: SamplerSpec) -> None:
        """Raises EngineIntegrity when a table is missing, misshapen or not finite."""
        try:
            tensors = load(serialized)
        except SafetensorError:
            raise EngineIntegrity("The sampler tables cannot be read; build the bundle again.") from None
        self._tables: dict[tuple[str, int], SamplerTable] = {}
        for name in spec.names:
            sigmas = _checked(tensors, f"{name}/init_noise_sigma", (spec.max_steps,))
            for steps in range(1, spec.max_steps + 1):
                coefficients = _checked(tensors, f"{name}/{steps}", (steps, len(COLUMNS)))
                self._tables[name, steps] = SamplerTable(
                    coefficients,
                    float(sigmas[steps - 1]),
                    _checked(tensors, f"{name}/{steps}/entry", (steps, 2)) if spec.entries else None,
                    _checked(tensors, f"{name}/{steps}/first", (steps, 8)) if f"{name}/1/first" in tensors else None,
                )

    def table(self, sampler: str, steps: int) -> SamplerTable:
        """Raises KeyError for what `darkroom.bundles.manifest.resolve` would have refused."""
        return self._tables[sampler, steps]


def _checked(tensors: dict[str, Doubles], name: str, shape: tuple[int, ...]) -> Doubles:
    tensor = tensors.get(name)
    if tensor is None or tensor.shape != shape or tensor.dtype != np.float64 or not np.isfinite(tensor).all():
        raise EngineIntegrity(f"The sampler table {name} is missing or malformed; build the bundle again.")
    tensor.flags.writeable = False
    return tensor


def advance(updates: Floats, latents: Floats, output: Floats, denoised: Floats, noise: Floats | None) -> Floats:
    """One step of `n` trajectories at once, each by its own coefficients.

    `updates` is [n, 8], the coefficients from a_x on; the others are [n, C, h, w]; all are float32; `noise` None stands
    for zeros. Returns the new latents and denoised estimates, float32 [2, n, C, h, w]. Written as separate
    multiplications and additions, each rounded by itself, so that a row's result does not depend on how many rows
    there are.
    """
    weights = updates.reshape(-1, 2, 4).transpose(1, 2, 0)[..., None, None, None]  # [2, 4, n, 1, 1, 1]
    total: Floats = weights[:, 0] * latents
    total += weights[:, 1] * output
    total += weights[:, 2] * denoised
    if noise is not None:
        total += weights[:, 3] * noise
    return total
