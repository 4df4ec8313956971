"""The picture that an image starts from: image-to-image, and with a mask inpainting."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from runtime.arrays import Floats
from runtime.denoising.samplers import SamplerTable


@dataclass(frozen=True, eq=False)
class Original:
    """Its latents, float32 [C, h, w], scaled as the UNet knows them, and where they are drawn again.

    `mask` is float32 [1, h, w], 1 where latents are drawn again and 0 where they are kept; None: everywhere.
    """

    latents: Floats
    mask: Floats | None = None

    def entering(self, table: SamplerTable, step: int, noise: Floats) -> Floats:
        """The latents before `step`; all noise where a masked picture is entered at the first, as diffusers does."""
        if self.mask is not None and step == 0:
            return noise * np.float32(table.init_noise_sigma)
        return self._noised(table, step, noise)

    def keep(self, latents: Floats, table: SamplerTable, step: int, noise: Floats) -> Floats:
        """The latents before `step` with this picture outside the mask, noised as at that step, if any."""
        if self.mask is None:
            return latents
        original = self.latents if step == table.steps else self._noised(table, step, noise)
        kept: Floats = (1 - self.mask) * original + self.mask * latents
        return kept

    def _noised(self, table: SamplerTable, step: int, noise: Floats) -> Floats:
        signal, strength = table.marginal(step)
        noised: Floats = np.float32(signal) * self.latents + np.float32(strength) * noise
        return noised
