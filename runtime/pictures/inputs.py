"""What a request's images become before the engine sees them: a picture to start from, a mask, control images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from darkroom.bundles.manifest import EngineManifest
from darkroom.contracts import GenerationRequest, GenerationWarning
from darkroom.errors import InvalidDimensions
from darkroom.sizes import nearest
from runtime.arrays import Floats, Pixels
from runtime.pictures.canny import canny
from runtime.pictures.inpaint import paste, redrawn
from runtime.pictures.sources import InputImages

_EDGES = "canny"  # the only type that is drawn here; other ControlNets take the image as it is
_UNSEEN = 0.02  # of a picture may be lost at its margins before its sender is told; also: what is one aspect
Size = tuple[int, int]  # width, height


@dataclass(frozen=True, eq=False)
class Inputs:
    """All of one size, `width` x `height`. `picture`: uint8 [H, W, 3]; `mask`: uint8 [H, W], 255 where it is drawn
    again, and `latent_mask`, float32 [1, h, w], 1 where that touches latents; `controls`: uint8 [H, W, 3], one for each
    of the request's `control`. `warnings`: what is not as it was sent.
    """

    width: int = 0
    height: int = 0
    picture: Pixels | None = None
    mask: Pixels | None = None
    latent_mask: Floats | None = None
    controls: tuple[Pixels, ...] = ()
    warnings: tuple[GenerationWarning, ...] = ()

    def finish(self, pixels: Pixels) -> Pixels:
        """A decoded image, uint8 [H, W, 3], with the picture pasted back where the mask does not reach."""
        return pixels if self.mask is None or self.picture is None else paste(self.picture, pixels, self.mask)


def read_inputs(images: InputImages, request: GenerationRequest, tenant: str, manifest: EngineManifest) -> Inputs:
    """The images of a resolved request, read and decoded; where it names no size, the first one decides.

    Never call it on the engine thread: it may have to fetch.

    Raises: as `InputImages` does; InvalidDimensions, where a mask has another shape than its image.
    """
    reading = _Reading(images, request, tenant)
    width, height = request.width, request.height
    if width is None or height is None:
        defaults = manifest.defaults
        width, height = nearest(*reading.size(*reading.first()), manifest.limits, defaults.width * defaults.height)
    reading.made = (width, height)
    picture = mask = latent_mask = None
    if request.image is not None and request.strength is not None:
        picture = reading.decoded(request.image, "/image")
        if request.mask is not None:
            mask = reading.mask(request.mask, request.image)
            latent_mask = redrawn(mask, manifest.latents.downscale)
    controls = []
    for control in request.control or ():
        source, field = (control.image, "/control/image") if control.image else (request.image or "", "/image")
        shown = reading.decoded(source, field)
        if control.type == _EDGES and control.preprocess:
            shown = np.repeat(canny(shown, control.low_threshold, control.high_threshold)[:, :, None], 3, axis=2)
        controls.append(shown)
    return Inputs(width, height, picture, mask, latent_mask, tuple(controls), tuple(reading.warnings.values()))


class _Reading:
    """The files of one request, each fetched once, and what is to be said of them; `made` is the size of its image."""

    def __init__(self, images: InputImages, request: GenerationRequest, tenant: str) -> None:
        self.made: Size = (0, 0)
        self.warnings: dict[str, GenerationWarning] = {}
        self._images = images
        self._request = request
        self._tenant = tenant
        self._files: dict[str, bytes] = {}

    def first(self) -> tuple[str, str]:
        """The image that decides where no size is named, and its field."""
        if self._request.image is not None:
            return self._request.image, "/image"
        return next((control.image or "" for control in self._request.control or ()), ""), "/control/image"

    def size(self, source: str, field: str) -> Size:
        return self._images.size(self._read(source, field), field=field)

    def decoded(self, source: str, field: str) -> Pixels:
        size = self.size(source, field)
        if not _alike(size, self.made):
            self._warn("image_cropped", f"{field[1:]}, {_written(size)}, was cropped to make {_written(self.made)}.")
        return self._images.decode(self._read(source, field), self._tenant, *self.made, field=field)

    def mask(self, source: str, image: str) -> Pixels:
        """uint8 [H, W]. Raises: InvalidDimensions, where it does not lie over the image."""
        size, of_image = self.size(source, "/mask"), self.size(image, "/image")
        if not _alike(size, of_image):
            detail = f"mask, {_written(size)}, must have the shape of image, {_written(of_image)}."
            raise InvalidDimensions(detail, field="/mask")
        if size != of_image:
            self._warn("mask_scaled", f"mask, {_written(size)}, was scaled to lie over image, {_written(of_image)}.")
        alpha = self._request.mask_alpha
        decoded = self._images.decode_mask(self._read(source, "/mask"), self._tenant, *self.made, alpha=alpha)
        if decoded.by_alpha:
            self._warn("mask_alpha", f"mask has transparency: what is {alpha} is drawn again, whatever its colours.")
        return decoded.pixels

    def _read(self, source: str, field: str) -> bytes:
        if source not in self._files:
            self._files[source] = self._images.read(source, self._tenant, field=field)
        return self._files[source]

    def _warn(self, code: str, detail: str) -> None:
        self.warnings[detail] = GenerationWarning(code=code, detail=detail)


def _alike(one: Size, other: Size) -> bool:
    """Whether they are of one shape, but for what rounding to whole steps does."""
    ratio = one[0] * other[1] / (one[1] * other[0])
    return min(ratio, 1 / ratio) >= 1 - _UNSEEN


def _written(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
