"""Sources: the checkpoint and its ControlNets, opened at once, and loaded into diffusers when a stage needs them."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from model_build.checkpoints import lora
from model_build.checkpoints.autoencoder import with_autoencoder
from model_build.checkpoints.checkpoint import Checkpoint, open_checkpoint
from model_build.checkpoints.controlnet import ControlNetSource, open_controlnets
from model_build.checkpoints.lora import LoraSource, open_loras
from model_build.checkpoints.scheduler import own_sampler
from model_build.memory import empty, give_back
from model_build.plan import Plan
from model_build.progress import BuildProgress


class Sources:
    """What a plan builds from. Every property may raise BuildRefused."""

    def __init__(self, plan: Plan, progress: BuildProgress) -> None:
        self._plan = plan
        self._progress = progress

    @cached_property
    def checkpoint(self) -> Checkpoint:
        with self._progress.running("checkpoint"):
            checkpoint = open_checkpoint(self._plan.checkpoint)
            if self._plan.vae is not None:
                checkpoint = with_autoencoder(checkpoint, self._plan.vae)
        scheduler = checkpoint.configs["scheduler"]
        if own_sampler(scheduler) is None:
            self._progress.say(
                f"there is no sampler here like the checkpoint's {scheduler['_class_name']}; ddim instead"
            )
        return checkpoint

    @cached_property
    def controlnets(self) -> tuple[ControlNetSource, ...]:
        return open_controlnets(self._plan.controlnets, self.checkpoint)

    @cached_property
    def loras(self) -> tuple[LoraSource, ...]:
        return open_loras(self._plan.loras)

    @cached_property
    def pipeline(self) -> Any:
        """diffusers' pipeline, LoRAs in its weights, its tokens merged as planned."""
        from model_build.checkpoints.loading import load
        from model_build.graphs.token_merging import merge_tokens

        pipeline = load(self.checkpoint, self._progress.say)
        lora.merge(pipeline, self.loras, self._progress.say)
        merge_tokens(pipeline.unet, self._plan.token_merging)
        return pipeline

    @cached_property
    def networks(self) -> dict[str, Any]:
        """diffusers' ControlNets by component."""
        from model_build.checkpoints.loading import load_controlnets

        return load_controlnets(self.controlnets, self._progress.say)

    def release(self) -> None:
        """Forget what was loaded into diffusers, four bytes a weight; asked for again it is loaded again."""
        pipeline, networks = self.__dict__.pop("pipeline", None), self.__dict__.pop("networks", {})
        for module in (*(pipeline.components.values() if pipeline else ()), *networks.values()):
            empty(module)
        give_back()
