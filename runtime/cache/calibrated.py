"""Our policy: the finished image of a similar prompt, moved to where this prompt's would be and noised again."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from darkroom.bundles.manifest import CacheLevel, CacheSpec
from darkroom.errors import EngineIntegrity
from runtime.arrays import Floats, Ids
from runtime.cache.entry import Entry
from runtime.cache.eviction import Eviction, saved_work
from runtime.denoising.samplers import SamplerTable
from runtime.denoising.trajectory import Trajectory

_WEIGHTS = (
    *("prompt_mean", "prompt_basis", "hidden", "hidden_bias", "output", "skip", "output_bias"),
    *("image_basis", "metric"),
)
# A prompt this near to a remembered one (as a share of the distance that the deepest level allows) brings nothing new.
_REDUNDANT = 0.1
_NEAREST = 1e-3  # of the random distance: below it the calibration tells no prompts apart


class PromptMap:
    """From a prompt's embedding to the image that the checkpoint makes of it on average.

    A code is float32 [r]; `image_basis @ code` is the mean image in latents, up to a constant. The build stage trains
    the map: principal components of the embedding, one hidden layer beside a linear path, components of the image.
    """

    def __init__(self, serialized: bytes) -> None:
        """Raises EngineIntegrity when a tensor is missing, misshapen or not finite."""
        try:
            tensors = {name: tensor.astype(np.float32) for name, tensor in load(serialized).items()}
            weights = {name: tensors[name] for name in _WEIGHTS}
        except (SafetensorError, KeyError):
            raise EngineIntegrity("The cache's calibration cannot be read; build the bundle again.") from None
        if not all(np.isfinite(tensor).all() for tensor in weights.values()):
            raise EngineIntegrity("The cache's calibration is not finite; build the bundle again.")
        self._weights = weights
        try:
            code = self.code(np.zeros((1, 1, len(weights["prompt_mean"])), np.float32))
            self.image(code)
            if self.point(code).shape != code.shape:
                raise ValueError("metric")
        except ValueError:
            raise EngineIntegrity("The cache's calibration is misshapen; build the bundle again.") from None

    @property
    def dimensions(self) -> int:
        return len(self._weights["metric"])

    def code(self, prompt_embeds: Floats) -> Floats:
        """float32 [1, L, D] -> float32 [r]."""
        w = self._weights
        inputs = (prompt_embeds.reshape(-1) - w["prompt_mean"]) @ w["prompt_basis"]
        hidden: Floats = np.maximum(inputs @ w["hidden"] + w["hidden_bias"], np.float32(0))
        code: Floats = inputs @ w["skip"] + hidden @ w["output"] + w["output_bias"]
        return code

    def image(self, code: Floats) -> Floats:
        """The mean image's latents, up to a constant: float32 [C * h * w]."""
        image: Floats = code @ self._weights["image_basis"]
        return image

    def point(self, code: Floats) -> Floats:
        """Where the squared distance says how far the image must move, as the calibration measured it."""
        return (code * self._weights["metric"]).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Calibration:
    """What the bundle says about caching, and the share of uncached quality that the operator asks for."""

    prompts: PromptMap
    spec: CacheSpec
    quality: float
    deepest_share: float = 1.0
    """No image skips more than this share of its steps."""


class Calibrated:
    """One entry a trajectory, its finished latents, serves every step: x_k = signal_k * image + noise_k * own noise.

    The image is the donor's plus the difference of the two prompts' mean images, so it begins nearer to what is asked
    for; the noise is the seed's own, so another seed gives another image.

    A wrong image passes on what is wrong with it, so what began from another image starts none: each bears the risk of
    one entry. And no image stays the donor of all that comes after it: now and then one begins from noise.
    """

    name = "darkroom"
    reusable = True
    renews = 31

    def __init__(self, calibration: Calibration, eviction: Callable[[], Eviction] = saved_work) -> None:
        self.eviction = eviction
        self.dimensions = calibration.prompts.dimensions
        self._prompts = calibration.prompts
        self._spec = calibration.spec
        self._share = calibration.deepest_share
        # From the shallowest (highest timestep) down.
        self._levels = sorted(calibration.spec.levels, key=lambda level: -level.timestep)
        self._bound = (1 - calibration.quality) * (1 - calibration.spec.failing)
        self._redundant = _REDUNDANT * self._reach(self._levels[-1])

    def vector(self, prompt_embeds: Floats, ids: Ids) -> Floats:  # noqa: ARG002
        return self._prompts.code(prompt_embeds).astype(np.float16).astype(np.float32)

    def point(self, vector: Floats) -> Floats:
        return self._prompts.point(vector)

    def similarity(self, distance: float) -> float:
        """1: the same; 0: as unlike as two prompts drawn at random; not below -1."""
        return max(-1.0, 1 - distance / self._spec.random_distance)

    def applies(self, width: int, height: int, guidance_scale: float) -> bool:
        """At the size that was measured, and at least its guidance: with less, an image obeys its prompt less."""
        measured = self._spec
        return (width, height) == (measured.width, measured.height) and guidance_scale >= measured.guidance_scale

    def deepest(self, distance: float, table: SamplerTable) -> int:
        lowest = math.inf
        for level in self._levels:  # who may not enter here may not enter deeper
            if distance > level.farthest or self._risk(level, distance) > self._bound:
                break
            lowest = level.timestep
        latest = math.floor(self._share * table.steps)
        return max(
            (step for step in range(min(latest, table.steps - 1) + 1) if table.timestep(step) >= lowest), default=0
        )

    def keeps(self, table: SamplerTable) -> Collection[int]:
        return {table.steps}

    def usable(self, step: int, deepest: int, table: SamplerTable) -> int:
        return deepest if step == table.steps else 0

    def enter(self, trajectory: Trajectory, entry: Entry, vector: Floats, step: int) -> None:
        moved = self._prompts.image(vector) - self._prompts.image(entry.vector)
        image = entry.latents.astype(np.float32) + moved.reshape(entry.latents.shape)
        signal, noise = trajectory.table.marginal(step)
        latents = np.float32(signal) * image + np.float32(noise) * trajectory.initial_noise()
        trajectory.enter(latents, step, image if trajectory.table.looks_back(step) else None)

    def admits(self, distance: float | None, *, entered: bool) -> bool:
        return not entered and (distance is None or distance > self._redundant)

    def _risk(self, level: CacheLevel, distance: float) -> float:
        """How likely entering here at squared distance d makes an image wrong that would be right without a cache: the
        measured law, 1 / (1 + exp(-(intercept + slope * log d))).
        """
        nearest = _NEAREST * self._spec.random_distance
        exponent = level.intercept + level.slope * math.log(max(distance, nearest))
        return 1 / (1 + math.exp(-min(max(exponent, -50.0), 50.0)))

    def _reach(self, level: CacheLevel) -> float:
        """The squared distance from which an image may enter here."""
        exponent = (math.log(self._bound / (1 - self._bound)) - level.intercept) / level.slope
        return min(level.farthest, math.exp(min(exponent, 50.0)))
