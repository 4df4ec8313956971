"""What a request's images become before the engine sees them: a picture to start from, a mask, control images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from darkroom.contracts import GenerationRequest
from runtime.arrays import Floats, Pixels
from runtime.pictures.canny import canny
from runtime.pictures.inpaint import paste, redrawn
from runtime.pictures.sources import InputImages

_EDGES = "canny"  # the only type that is drawn here; other ControlNets take the image as it is


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


def read_inputs(images: InputImages, request: GenerationRequest, tenant: str, downscale: int) -> Inputs:
    """The images of a resolved request, read and decoded; `downscale` is that of the latents.

    Never call it on the engine thread: it may have to fetch.

    Raises: as `InputImages` does.
    """
    width, height = request.width or 0, request.height or 0
    files: dict[str, bytes] = {}

    def read(source: str, field: str) -> bytes:
        if source not in files:
            files[source] = images.read(source, tenant, field=field)
        return files[source]

    def decoded(source: str, field: str) -> Pixels:
        return images.decode(read(source, field), tenant, width, height, field=field)

    picture = mask = latent_mask = None
    if request.image is not None and request.strength is not None:
        picture = decoded(request.image, "/image")
        if request.mask is not None:
            mask = images.decode_mask(read(request.mask, "/mask"), tenant, width, height, field="/mask")
            latent_mask = redrawn(mask, downscale)
    controls = []
    for control in request.control or ():
        source, field = (control.image, "/control/image") if control.image else (request.image or "", "/image")
        shown = decoded(source, field)
        if control.type == _EDGES and control.preprocess:
            shown = np.repeat(canny(shown, control.low_threshold, control.high_threshold)[:, :, None], 3, axis=2)
        controls.append(shown)
    return Inputs(picture, mask, latent_mask, tuple(controls))
