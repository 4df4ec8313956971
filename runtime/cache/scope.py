"""Who may use whose latents: everything that must be equal, in one key."""

from __future__ import annotations

import hashlib
import json

from darkroom.contracts import GenerationRequest
from runtime.arrays import Ids

_GUIDANCE_BUCKET = 0.5
# What a request may say and still use the cache: all of it is in the key, or does not touch the latents. A request that
# says anything else (an image, a mask, a control image) is neither looked up nor remembered.
_KEYED = {
    *("prompt", "negative_prompt", "width", "height", "num_inference_steps", "guidance_scale", "sampler"),
    *("seed", "num_images", "output_format", "cache"),
}


def cacheable(request: GenerationRequest) -> bool:
    """Whether a request may use the cache at all."""
    return request.cache != "off" and set(request.model_dump(exclude_defaults=True)) <= _KEYED


def scope(bundle: str, tenant: str, request: GenerationRequest, negative: Ids) -> str:
    """The key of a resolved request, 32 hex digits: equal for two requests that may share latents.

    `bundle` names the served content (its version covers checkpoint, sampler tables and calibration) and target.
    `negative` is the negative prompt's token ids: latents drawn away from other things are other latents.
    """
    guidance = request.guidance_scale or 0.0
    shared = {
        "bundle": bundle,
        "tenant": tenant,
        "size": [request.width, request.height],
        "sampler": request.sampler,
        "steps": request.num_inference_steps,
        "guidance": round(guidance / _GUIDANCE_BUCKET) if guidance > 1 else 0,
        "negative": negative.tolist(),
    }
    return _digest(shared)


def repeat(bundle: str, tenant: str, request: GenerationRequest, seed: int) -> str:
    """The key of one image of a resolved request, 32 hex digits: equal only where the image must be.

    An image that may have come from a similar prompt's does not answer a request that wants its seed's own.
    """
    fields = request.model_dump(mode="json", exclude={"seed", "num_images"})
    return _digest({"bundle": bundle, "tenant": tenant, "request": fields, "seed": seed})


def _digest(key: object) -> str:
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
