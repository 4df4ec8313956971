"""Export: every component of a checkpoint -> one ONNX graph with dynamic rows, height and width."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import onnx_ir
import torch
from torch.export import Dim

from darkroom.bundles.manifest import Condition
from model_build.checkpoints.checkpoint import TIME_IDS, Checkpoint
from model_build.checkpoints.controlnet import residuals

_OPSET = 20
NO_CONTROLNETS: Mapping[str, Any] = {}
Axes = dict[int, str]
_ROWS: Axes = {0: "rows"}
_LATENTS: Axes = {0: "rows", 2: "height", 3: "width"}
_IMAGE: Axes = {0: "rows", 2: "image_height", 3: "image_width"}


@dataclass(frozen=True)
class ComponentGraph:
    """What of a component is traced: the call, an example of each input, and the names of all dynamic axes.

    The last `repeated` inputs are one variadic parameter of the module.
    """

    module: torch.nn.Module
    inputs: dict[str, tuple[torch.Tensor, Axes]]
    outputs: dict[str, Axes]
    repeated: int = 0


class TextEncoder(torch.nn.Module):
    """input_ids int64 [n, L] -> prompt_embeds float32 [n, L, D]: the last hidden state, as the pipeline uses it."""

    def __init__(self, encoder: torch.nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        embeds: torch.Tensor = self.encoder(input_ids)[0]
        return embeds


class TextEncoders(torch.nn.Module):
    """SDXL's two: input_ids int64 [n, L] -> prompt_embeds float32 [n, L, D1 + D2], text_embeds float32 [n, pooled_dim].

    The ids are the first tokenizer's; what it pads with, its end token, becomes the second one's padding in the graph.
    """

    def __init__(self, pipeline: Any) -> None:
        super().__init__()
        self.first, self.second = pipeline.text_encoder, pipeline.text_encoder_2
        self.end, self.pad = pipeline.tokenizer.eos_token_id, pipeline.tokenizer_2.pad_token_id

    def forward(self, input_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        ends = input_ids == self.end
        padded = torch.where(ends & (ends.long().cumsum(dim=1) > 1), self.pad, input_ids)
        first = self.first(input_ids, output_hidden_states=True)
        second = self.second(padded, output_hidden_states=True)
        # The last but one layer of each, as StableDiffusionXLPipeline.encode_prompt has it.
        return torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1), second[0]


class UNet(torch.nn.Module):
    """latents [rows, C, h, w], timestep float32 [rows], prompt_embeds [rows, L, D], and the checkpoint's further
    conditions in their order -> noise_pred [rows, C, h, w].

    The timestep has the batch dimension, so that rows at different steps share a batch.
    """

    def __init__(self, unet: Any, conditions: Sequence[Condition] = ()) -> None:
        super().__init__()
        self.unet = unet
        self.conditions = tuple(conditions)

    def forward(
        self, latents: torch.Tensor, timestep: torch.Tensor, prompt_embeds: torch.Tensor, *conditions: torch.Tensor
    ) -> torch.Tensor:
        given: dict[str, torch.Tensor] = dict(zip(self.conditions, conditions, strict=True))
        options: dict[str, Any] = {}
        if "guidance" in given:
            # As StableDiffusionPipeline embeds it (Luo et al. 2023, Latent Consistency Models, 4.2): less one.
            width = self.unet.config.time_cond_proj_dim
            scale = given.pop("guidance") - 1
            options["timestep_cond"] = diffusers.StableDiffusionPipeline.get_guidance_scale_embedding(
                None, scale, width
            )
        if given:
            options["added_cond_kwargs"] = given
        noise: torch.Tensor = self.unet(latents, timestep, prompt_embeds, **options, return_dict=False)[0]
        return noise


class ControlledUNet(torch.nn.Module):
    """As `UNet`, and the residuals of ControlNets, [rows, c, h', w'] each: what is added on the way down, then in the
    middle.
    """

    def __init__(self, unet: torch.nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(
        self, latents: torch.Tensor, timestep: torch.Tensor, prompt_embeds: torch.Tensor, *residuals: torch.Tensor
    ) -> torch.Tensor:
        *down, mid = residuals
        noise: torch.Tensor = self.unet(
            latents,
            timestep,
            prompt_embeds,
            down_block_additional_residuals=tuple(down),
            mid_block_additional_residual=mid,
            return_dict=False,
        )[0]
        return noise


class ControlNetModule(torch.nn.Module):
    """What a UNet takes, and control_image [rows, 3, H, W] in [0, 1] -> the residuals, not scaled."""

    def __init__(self, controlnet: torch.nn.Module) -> None:
        super().__init__()
        self.controlnet = controlnet

    def forward(
        self, latents: torch.Tensor, timestep: torch.Tensor, prompt_embeds: torch.Tensor, control_image: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        down, mid = self.controlnet(latents, timestep, prompt_embeds, control_image, return_dict=False)
        return (*down, mid)


class VaeDecoder(torch.nn.Module):
    """latents [n, C, h, w], unscaled, as `AutoencoderKL.decode` takes them -> image [n, 3, 8h, 8w] in about [-1, 1]."""

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        image: torch.Tensor = self.vae.decode(latents, return_dict=False)[0]
        return image


class VaeEncoder(torch.nn.Module):
    """image [n, 3, 8h, 8w] in [-1, 1] -> mean and std [n, C, h, w] of the latent distribution, unscaled.

    A tiny autoencoder knows the latents themselves: its std is 0.
    """

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        encoded = self.vae.encode(image, return_dict=False)[0]
        if isinstance(encoded, torch.Tensor):
            return encoded, torch.zeros_like(encoded)
        return encoded.mean, encoded.std


def component_graph(
    component: str, checkpoint: Checkpoint, pipeline: Any, controlnets: Mapping[str, Any] = NO_CONTROLNETS
) -> ComponentGraph:
    """What is traced of one component of a loaded StableDiffusionPipeline; `controlnets` are loaded ControlNetModels by
    component. With any, the UNet takes their residuals.

    The example's latents are of odd size: that makes diffusers' UNet take the path on which each upsampler is told its
    output size, which holds for every size (the other one only where all halvings are exact).
    """
    channels, length, width = checkpoint.latent_channels, checkpoint.max_length, checkpoint.embedding_dim
    latents = torch.zeros(2, channels, 17, 19)
    if component == "text_encoder":
        ids = torch.zeros(2, length, dtype=torch.int64)
        if checkpoint.pooled_dim is not None:
            both = {"prompt_embeds": _ROWS, "text_embeds": _ROWS}
            return ComponentGraph(TextEncoders(pipeline), {"input_ids": (ids, _ROWS)}, both)
        return ComponentGraph(TextEncoder(pipeline.text_encoder), {"input_ids": (ids, _ROWS)}, {"prompt_embeds": _ROWS})
    embeds = torch.zeros(2, length, width)
    step = {"latents": (latents, _LATENTS), "timestep": (torch.zeros(2), _ROWS), "prompt_embeds": (embeds, _ROWS)}
    added = {
        residual.name: (
            torch.zeros(2, residual.channels, -(-17 // residual.shrink), -(-19 // residual.shrink)),
            {0: "rows", 2: f"height_{residual.shrink}", 3: f"width_{residual.shrink}"},
        )
        for residual in (residuals(checkpoint.configs["unet"]) if controlnets else ())
    }
    if component == "unet" and not added:
        widths: dict[str, tuple[int, ...]] = {
            "text_embeds": (checkpoint.pooled_dim or 0,),
            "time_ids": (TIME_IDS,),
            "guidance": (),
        }
        further: dict[str, tuple[torch.Tensor, Axes]] = {
            name: (torch.ones(2, *widths[name]), _ROWS) for name in checkpoint.conditions
        }
        module = UNet(pipeline.unet, checkpoint.conditions)
        return ComponentGraph(module, {**step, **further}, {"noise_pred": _LATENTS}, repeated=len(further))
    if component == "unet":
        controlled = ControlledUNet(pipeline.unet)
        return ComponentGraph(controlled, {**step, **added}, {"noise_pred": _LATENTS}, repeated=len(added))
    if component in controlnets:
        control = torch.zeros(2, 3, 17 * checkpoint.downscale, 19 * checkpoint.downscale)
        outputs = {name: axes for name, (_, axes) in added.items()}
        return ComponentGraph(
            ControlNetModule(controlnets[component]), {**step, "control_image": (control, _IMAGE)}, outputs
        )
    if component == "vae_decoder":
        return ComponentGraph(VaeDecoder(pipeline.vae), {"latents": (latents, _LATENTS)}, {"image": _IMAGE})
    image = torch.zeros(2, 3, 17 * checkpoint.downscale, 19 * checkpoint.downscale)
    return ComponentGraph(VaeEncoder(pipeline.vae), {"image": (image, _IMAGE)}, {"mean": _LATENTS, "std": _LATENTS})


def export(graph: ComponentGraph, path: Path) -> None:
    """Write `graph` as ONNX to `path`, its weights beside it in `{path}.data`; the same bytes on every run."""
    dynamic = [dict.fromkeys(axes, Dim.DYNAMIC) for _, axes in graph.inputs.values()]
    named = len(dynamic) - graph.repeated
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            graph.module.eval(),
            tuple(example for example, _ in graph.inputs.values()),
            dynamo=True,
            opset_version=_OPSET,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            dynamic_shapes=[*dynamic[:named], tuple(dynamic[named:])] if graph.repeated else dynamic,
            verbose=False,
        )
    assert program is not None  # noqa: S101  (torch types the result as optional for the legacy exporter)
    model = program.model
    _strip(model)
    axes = [axes for _, axes in graph.inputs.values()] + list(graph.outputs.values())
    for value, names in zip((*model.graph.inputs, *model.graph.outputs), axes, strict=True):
        if value.shape is not None:
            for axis, name in names.items():
                value.shape[axis] = name
    onnx_ir.save(model, path, external_data=f"{path.name}.data")


def _strip(model: onnx_ir.Model) -> None:
    """Drop what names this machine or this run: stack traces with paths, symbolic dimensions numbered by the tracer."""
    model.metadata_props.clear()
    model.doc_string = None
    model.graph.metadata_props.clear()
    model.graph.doc_string = None
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
        value.doc_string = None
    for node in model.graph:
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
            value.doc_string = None
            if value not in model.graph.outputs:
                value.shape = None
                value.type = None


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter reports its own internals (torchvision missing, a deprecation inside torch); none is about us.

    The side effect is token merging noting the latents' size.
    """
    names = ("torch.onnx._internal.exporter._registration", "torch.utils._sympy.interp")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)`", FutureWarning)
            warnings.filterwarnings("ignore", "While compiling, we found certain side effects", UserWarning)
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
