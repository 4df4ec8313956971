"""What a request's images become before the engine sees them: a picture to start from, a mask, control images."""

from __future__ import annotations

from dataclasses import dataclass

from runtime.arrays import Floats, Pixels
from runtime.pictures.inpaint import paste


@dataclass(frozen=True, eq=False)
class Inputs:
    """All of the request's size. `picture`: uint8 [H, W, 3]; `mask`: uint8 [H, W], 255 where it is drawn again, and
    `latent_mask`, float32 [1, h, w], 1 where that touches latents; `controls`: uint8 [H, W, 3], one for each of the
    request's `control`.
    """

    picture: Pixels | None = None
    mask: Pixels | None = None
    latent_mask: Floats | None = None
    controls: tuple[Pixels, ...] = ()

    def finish(self, pixels: Pixels) -> Pixels:
        """A decoded image, uint8 [H, W, 3], with the picture pasted back where the mask does not reach."""
        return pixels if self.mask is None or self.picture is None else paste(self.picture, pixels, self.mask)
