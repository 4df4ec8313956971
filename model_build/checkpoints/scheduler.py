"""A checkpoint's own scheduler config: whether samplers can be tabulated from it, and which of ours it means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from model_build import BuildRefused

_FILE = "scheduler/scheduler_config.json"
_OURS = {  # our sampler by diffusers' class
    "DDIMScheduler": "ddim",
    "EulerDiscreteScheduler": "euler",
    "EulerAncestralDiscreteScheduler": "euler_a",
    "DPMSolverMultistepScheduler": "dpmpp_2m",
    "LCMScheduler": "lcm",
}
# Those whose config is of the same training noise (`compatibles` in diffusers), so that ours can be made from it.
_LIKE_OURS = {
    *("DDPM", "DDIMParallel", "DDPMParallel", "PNDM", "LMSDiscrete", "HeunDiscrete", "KDPM2Discrete", "TCD"),
    *("KDPM2AncestralDiscrete", "DPMSolverSinglestep", "DPMSolverSDE", "DEISMultistep", "UniPCMultistep", "SASolver"),
}
_CLIPS_UNLESS_TOLD = ("DDIMScheduler", "DDPMScheduler")  # diffusers' default of clip_sample is True in these


def own_sampler(scheduler: Mapping[str, Any]) -> str | None:
    """The sampler of ours that the config's class is; None where there is none."""
    return _OURS.get(str(scheduler.get("_class_name")))


def refuse_other_noise(scheduler: Mapping[str, Any]) -> None:
    """Raises: BuildRefused, where a table of ours would follow other noise than the UNet was trained on."""
    kind = str(scheduler.get("_class_name"))
    if kind not in _OURS and kind.removesuffix("Scheduler") not in _LIKE_OURS:
        raise BuildRefused(
            f"{_FILE} is of a {kind}, whose noise no sampler here follows (EDM and flow matching are such); "
            "only checkpoints with Stable Diffusion's own noise can be built."
        )
    for key in ("thresholding", "clip_sample"):
        if scheduler.get(key, key == "clip_sample" and kind in _CLIPS_UNLESS_TOLD):
            raise BuildRefused(
                f'A sampler with {key} is no linear table; set "{key}": false in {_FILE} if its images allow it.'
            )
    prediction = scheduler.get("prediction_type", "epsilon")
    if prediction not in ("epsilon", "v_prediction") or scheduler.get("use_flow_sigmas"):
        raise BuildRefused(
            f"{_FILE} asks for the prediction type {prediction}; only epsilon and v_prediction can be built."
        )
