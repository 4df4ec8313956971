"""Reference: the diffusers pipeline itself, asked for the same image from the same noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import diffusers
import numpy as np
import torch
from numpy.typing import NDArray

from model_build import samplers
from model_build.checkpoints.checkpoint import Checkpoint
from model_build.checkpoints.controlnet import COMPONENT, MID
from model_build.graphs.export import NO_CONTROLNETS, ControlledUNet, component_graph
from model_build.proof.control import control_image
from model_build.proof.generation import Floats, Setting, noises
from model_build.proof.trial import Arrays


class Reference:
    """What a bundle is compared with."""

    def __init__(self, checkpoint: Checkpoint, pipeline: Any, controlnets: Mapping[str, Any] = NO_CONTROLNETS) -> None:
        """`controlnets` are loaded ControlNetModels by component."""
        self.checkpoint = checkpoint
        self.pipeline = pipeline
        self.controlnets = controlnets

    def generate(self, setting: Setting) -> Floats:
        """An image [height, width, 3] in [0, 1]."""
        side = self.checkpoint.downscale
        shape = (1, self.checkpoint.latent_channels, setting.height // side, setting.width // side)
        draws = noises(setting.seed, shape)
        latents = torch.from_numpy(next(draws)).to(self.pipeline.device, self.pipeline.unet.dtype)
        control = self._control(setting)
        pipeline: Any = self.pipeline
        if control:
            networks = [self.controlnets[f"{COMPONENT}{control_setting.type}"] for control_setting in setting.controls]
            pipeline = diffusers.StableDiffusionControlNetPipeline(
                **self.pipeline.components,
                controlnet=networks,
                requires_safety_checker=False,
            )
            pipeline.set_progress_bar_config(disable=True)
        pipeline.scheduler = samplers.create(setting.sampler, self.checkpoint.sampler_config, setting.steps)
        with samplers.replaced_noise(lambda _: torch.from_numpy(next(draws)).to(latents)):
            output = pipeline(
                setting.prompt,
                width=setting.width,
                height=setting.height,
                num_inference_steps=setting.steps,
                guidance_scale=setting.guidance,
                latents=latents,
                output_type="np",
                **control,
            )
        image: Floats = output.images[0]
        return image

    def _control(self, setting: Setting) -> dict[str, Any]:
        """What StableDiffusionControlNetPipeline is told more; empty without control."""
        if not setting.controls:
            return {}
        size = setting.width, setting.height
        return {
            "image": [
                torch.from_numpy(control_image(*size, seed=index))[None] for index, _ in enumerate(setting.controls)
            ],
            "controlnet_conditioning_scale": [control.scale for control in setting.controls],
            "control_guidance_start": [control.start for control in setting.controls],
            "control_guidance_end": [control.end for control in setting.controls],
        }

    def component(self, name: str, inputs: Arrays) -> list[NDArray[Any]]:
        """One component's outputs, in its graph's order."""
        if name == "unet" and MID in inputs:
            module: torch.nn.Module = ControlledUNet(self.pipeline.unet)
        else:
            module = component_graph(name, self.checkpoint, self.pipeline, self.controlnets).module
        with torch.no_grad():
            outputs = module(*(torch.from_numpy(np.asarray(value)) for value in inputs.values()))
        return [value.numpy() for value in (outputs if isinstance(outputs, tuple) else (outputs,))]
