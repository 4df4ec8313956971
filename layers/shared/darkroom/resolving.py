"""A request with what it leaves open filled in by its bundle."""

from __future__ import annotations

from darkroom.bundles.manifest import EngineManifest
from darkroom.contracts import GenerationRequest
from darkroom.errors import InvalidDimensions, InvalidParameter, OutOfRange
from darkroom.image_use import image_use


def resolve(request: GenerationRequest, manifest: EngineManifest) -> GenerationRequest:
    """The request with every default filled in, or why this model cannot make it.

    Of a request that brings an image and names no size, width and height stay open: they are that image's.

    Raises: InvalidDimensions, InvalidParameter, OutOfRange; what an image is for is filled in by `image_use`.
    """
    limits = manifest.limits
    left_open = {name: value for name, value in manifest.defaults if getattr(request, name) is None}
    if request.brings_images and request.width is None and request.height is None:
        del left_open["width"], left_open["height"]
    filled = request.seeded().model_copy(update=left_open)
    width, height, steps = filled.width, filled.height, filled.num_inference_steps or 0
    for name, size in (("width", width), ("height", height)):
        if size is None:
            continue
        if size % limits.multiple_of:
            raise InvalidDimensions(f"{name} must be a multiple of {limits.multiple_of}.", field=f"/{name}")
        if not limits.min_size <= size <= limits.max_size:
            detail = f"{name} must lie between {limits.min_size} and {limits.max_size} for this model."
            raise InvalidDimensions(detail, field=f"/{name}")
    if width and height and width * height > limits.max_pixels:
        raise InvalidDimensions(f"width x height may be at most {limits.max_pixels} pixels.", field="/width")
    if filled.sampler not in manifest.samplers.names:
        known = ", ".join(manifest.samplers.names)
        raise InvalidParameter(f"sampler must be one of this model's: {known}.", field="/sampler")
    if steps > manifest.samplers.max_steps:
        raise OutOfRange(f"At most {manifest.samplers.max_steps} steps.", field="/num_inference_steps")
    return filled.model_copy(update=image_use(filled, steps, manifest.control_types, enters=manifest.samplers.entries))
