"""What a checkpoint's own scheduler decides: the default sampler, and whether there can be any."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import pytest

from model_build import BuildRefused
from model_build.checkpoints.checkpoint import open_checkpoint
from model_build.checkpoints.scheduler import own_sampler, refuse_other_noise
from model_build.plan import Plan, defaults


@pytest.mark.parametrize(
    ("kind", "sampler", "steps", "guidance"),
    [
        ("DDIMScheduler", "ddim", 25, 7.5),
        ("PNDMScheduler", "ddim", 25, 7.5),
        ("EulerDiscreteScheduler", "euler", 25, 7.5),
        ("EulerAncestralDiscreteScheduler", "euler_a", 25, 7.5),
        ("DPMSolverMultistepScheduler", "dpmpp_2m", 25, 7.5),
        ("LCMScheduler", "lcm", 4, 1.0),
    ],
)
def test_the_defaults_are_the_folders_own(
    tiny_checkpoint: Path, kind: str, sampler: str, steps: int, guidance: float
) -> None:
    """They were ddim, 25 steps and 7.5, whatever the folder said."""
    opened = open_checkpoint(str(tiny_checkpoint))
    scheduler = {**opened.configs["scheduler"], "_class_name": kind}
    found = replace(opened, configs={**opened.configs, "scheduler": scheduler})
    plan = Plan(checkpoint=str(tiny_checkpoint), name="tiny", targets=(), work=tiny_checkpoint)
    made = defaults(plan, found)
    assert (made.sampler, made.num_inference_steps, made.guidance_scale) == (sampler, steps, guidance)
    given = defaults(replace(plan, sampler="euler", steps=9, guidance=2.0), found)
    assert (given.sampler, given.num_inference_steps, given.guidance_scale) == ("euler", 9, 2.0)


@pytest.mark.parametrize("kind", ["DDIM", "PNDM", "LMSDiscrete", "UniPCMultistep", "TCD", "EulerDiscrete", "LCM"])
def test_schedulers_as_diffusers_saves_them_are_followed(kind: str) -> None:
    config: dict[str, Any] = (
        dict(getattr(diffusers, f"{kind}Scheduler")(clip_sample=False).config)
        if kind
        in (
            "DDIM",
            "TCD",
            "LCM",
        )
        else dict(getattr(diffusers, f"{kind}Scheduler")().config)
    )
    refuse_other_noise({**config, "_class_name": f"{kind}Scheduler"})


@pytest.mark.parametrize(
    "kind", ["EDMEuler", "EDMDPMSolverMultistep", "FlowMatchEulerDiscrete", "FlowMatchHeunDiscrete", "KarrasVe", "SCM"]
)
def test_other_noise_is_refused(kind: str) -> None:
    """It was built, and served with ddim."""
    assert hasattr(diffusers, f"{kind}Scheduler")
    assert own_sampler({"_class_name": f"{kind}Scheduler"}) is None
    with pytest.raises(BuildRefused, match=f"is of a {kind}Scheduler, whose noise no sampler here follows"):
        refuse_other_noise({"_class_name": f"{kind}Scheduler"})
