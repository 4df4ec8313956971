"""What a request's image is for: edges to keep (ControlNet), a picture to start from (image-to-image, inpainting)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from darkroom.contracts import Control, GenerationRequest
from darkroom.errors import InvalidParameter, OutOfRange

DEFAULT_STRENGTH = 0.8  # of image-to-image, as diffusers has it
DEFAULT_MASK_STRENGTH = 1.0  # of inpainting, as diffusers has it


def steps_run(steps: int, strength: float) -> int:
    """How many of `steps` an image with this strength goes through, rounded as diffusers' `get_timesteps` rounds."""
    return min(int(steps * strength), steps)


def image_use(request: GenerationRequest, steps: int, control_types: Sequence[str], *, enters: bool) -> dict[str, Any]:
    """`control` and `strength` with all that was left to the model filled in.

    An image alone is the control image where the bundle has one ControlNet, and the start of image-to-image where it
    has none. `control_types` are those of the bundle's ControlNets; `enters`: its tables know the noise of each step.

    Raises: InvalidParameter, OutOfRange.
    """
    controls, strength = request.control, request.strength
    if request.image is not None and controls is None and strength is None and request.mask is None:
        if len(control_types) > 1:
            known = ", ".join(control_types)
            detail = f"Say what the image is for: control.type ({known}), or strength for image-to-image."
            raise InvalidParameter(detail, field="/control")
        if control_types:
            controls = [Control(type=control_types[0])]
        else:
            strength = DEFAULT_STRENGTH
    if strength is None and request.mask is not None:
        strength = DEFAULT_MASK_STRENGTH
    if strength is not None:
        if not enters:
            raise InvalidParameter("This model was built without image-to-image; build it again.", field="/image")
        if not steps_run(steps, strength):
            raise OutOfRange(f"With {steps} steps, strength must be at least {1 / steps:.3g}.", field="/strength")
    return {"control": controls and _typed(controls, control_types), "strength": strength}


def _typed(controls: Sequence[Control], known: Sequence[str]) -> list[Control]:
    if not known:
        raise InvalidParameter("This model has no ControlNet.", field="/control")
    only = known[0] if len(known) == 1 else None
    typed = []
    for control in controls:
        kind = control.type or only
        if kind not in known:
            raise InvalidParameter(f"This model has the ControlNets {', '.join(known)}.", field="/control/type")
        typed.append(control.model_copy(update={"type": kind}))
    return typed
