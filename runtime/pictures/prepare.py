"""From a request's image sources to the inputs the engine takes."""

from __future__ import annotations

import numpy as np

from darkroom.contracts import GenerationRequest
from runtime.arrays import Pixels
from runtime.pictures.inpaint import redrawn
from runtime.pictures.inputs import Inputs
from runtime.pictures.sources import InputImages, edges

_EDGES = "canny"  # the only type that is drawn here; other ControlNets take the image as it is


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
        return images.decode(read(source, field), width, height, field=field)

    picture = mask = latent_mask = None
    if request.image is not None and request.strength is not None:
        picture = decoded(request.image, "/image")
        if request.mask is not None:
            mask = images.decode_mask(read(request.mask, "/mask"), width, height, field="/mask")
            latent_mask = redrawn(mask, downscale)
    controls = []
    for control in request.control or ():
        source, field = (control.image, "/control/image") if control.image else (request.image or "", "/image")
        shown = decoded(source, field)
        if control.type == _EDGES and control.preprocess:
            shown = np.repeat(edges(shown, control.low_threshold, control.high_threshold)[:, :, None], 3, axis=2)
        controls.append(shown)
    return Inputs(picture, mask, latent_mask, tuple(controls))
