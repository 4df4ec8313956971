"""Control, as verify and calibration ask for it: an image of edges, and the ControlNets' part in a step. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from darkroom.bundles.manifest import ControlSpec
from model_build.compile import Engine
from model_build.proof.trial import Arrays

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class ControlSetting:
    """One ControlNet on an image that is made; `start` and `end` are fractions of the steps."""

    type: str
    scale: float = 1.0
    start: float = 0.0
    end: float = 1.0

    def acts(self, step: int, steps: int) -> bool:
        """As StableDiffusionControlNetPipeline decides it."""
        return step / steps >= self.start and (step + 1) / steps <= self.end


def control_image(width: int, height: int, seed: int = 0) -> Floats:
    """White outlines of rectangles on black, float32 [3, height, width] in {0, 1}; the same for the same seed."""
    random = np.random.Generator(np.random.Philox(seed))
    image = np.zeros((height, width), np.float32)
    for _ in range(4):
        top, bottom = np.sort(random.choice(height, 2, replace=False))
        left, right = np.sort(random.choice(width, 2, replace=False))
        image[[top, bottom], left : right + 1] = 1
        image[top : bottom + 1, [left, right]] = 1
    return np.repeat(image[None], 3, axis=0)


def residuals(
    spec: ControlSpec | None,
    engines: Mapping[str, Engine],
    controls: Sequence[ControlSetting],
    step: int,
    steps: int,
    size: tuple[int, int],
    inputs: Arrays,
) -> Arrays:
    """The UNet's further inputs for a step of one image of `size` (width, height): scaled, summed over ControlNets."""
    if spec is None:
        return {}
    total = no_residuals(spec, inputs["latents"])
    components = {net.type: net.component for net in spec.nets}
    for index, control in enumerate(controls):
        if control.acts(step, steps):
            image = np.repeat(control_image(*size, seed=index)[None], len(inputs["latents"]), axis=0)
            values = engines[components[control.type]]({**inputs, "control_image": image})
            for residual, value in zip(spec.residuals, values, strict=True):
                total[residual.name] = total[residual.name] + np.float32(control.scale) * value
    return total


def no_residuals(spec: ControlSpec, latents: NDArray[np.float32]) -> Arrays:
    """Zeros, for rows without control; `latents` [rows, C, h, w]."""
    rows, _, height, width = latents.shape
    return {
        residual.name: np.zeros(
            (rows, residual.channels, -(-height // residual.shrink), -(-width // residual.shrink)), np.float32
        )
        for residual in spec.residuals
    }
