"""Engine: the compiled networks of a bundle behind three calls, whatever library runs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol

from darkroom.bundles.manifest import Target
from runtime.arrays import Floats, Ids
from runtime.engines.compiled import CompiledGraphs
from runtime.engines.session import Bounds, memory_shares
from runtime.engines.shaped import StaticShapes

UNET = "unet"
DECODER = "vae_decoder"
COMPONENTS = ("text_encoder", UNET, DECODER)
CONTROLNET = "controlnet_"  # how the names of ControlNets' components begin
ENCODER = "vae_encoder"


class Engine(Protocol):
    """All calls come from one thread. They raise MemoryError where memory ran out; anything else is a failure.

    Results belong to the caller. For equal inputs, shapes included, they are bitwise equal.
    """

    def encode(self, input_ids: Ids) -> dict[str, Floats]:
        """int64 [n, L] -> by name `prompt_embeds`, float32 [n, L, D], and where the checkpoint has them `text_embeds`,
        [n, P].
        """

    def predict(self, latents: Floats, timestep: Floats, **conditioning: Floats) -> Floats:
        """float32 [rows, C, h, w] and [rows] -> the UNet's output, float32 [rows, C, h, w].

        `conditioning` is all else the UNet takes, by its inputs' names: float32 [rows, ...], with `prompt_embeds`
        [rows, L, D] always among them.
        """

    def control(
        self, component: str, latents: Floats, timestep: Floats, control_image: Floats, **conditioning: Floats
    ) -> dict[str, Floats]:
        """What `predict` takes of the same rows, and control images, float32 [rows, 3, H, W] in [0, 1] -> the residuals
        of one ControlNet by the names of the UNet's inputs, not scaled.
        """

    def decode(self, latents: Floats) -> Floats:
        """float32 [n, C, h, w], unscaled -> images, float32 [n, 3, H, W], about [-1, 1]."""

    def encode_image(self, image: Floats) -> tuple[Floats, Floats]:
        """float32 [n, 3, H, W] in [-1, 1] -> mean and standard deviation of latents, float32 [n, C, h, w], unscaled."""


# One compiled network: arrays in by name, all outputs out by name, in its order. Raises as `Engine` says.
Graph = Callable[[Mapping[str, Floats | Ids]], dict[str, Floats]]


class GraphEngine:
    """An Engine made of one graph per component, with the names that the build stage gives their inputs."""

    def __init__(self, graphs: Mapping[str, Graph], open_encoder: Callable[[], Graph]) -> None:
        """`open_encoder` opens the image encoder: few requests need it, so it is loaded for the first that does."""
        self._text_encoder, self._unet, self._vae_decoder = (graphs[name] for name in COMPONENTS)
        self._graphs = graphs
        self._open_encoder = open_encoder

    def encode(self, input_ids: Ids) -> dict[str, Floats]:
        outputs = self._text_encoder({"input_ids": input_ids})
        return outputs if len(outputs) > 1 else {"prompt_embeds": _first(outputs)}

    def predict(self, latents: Floats, timestep: Floats, **conditioning: Floats) -> Floats:
        return _first(self._unet({"latents": latents, "timestep": timestep, **conditioning}))

    def control(
        self, component: str, latents: Floats, timestep: Floats, control_image: Floats, **conditioning: Floats
    ) -> dict[str, Floats]:
        inputs = {"latents": latents, "timestep": timestep, "control_image": control_image, **conditioning}
        return self._graphs[component](inputs)

    def decode(self, latents: Floats) -> Floats:
        return _first(self._vae_decoder({"latents": latents}))

    def encode_image(self, image: Floats) -> tuple[Floats, Floats]:
        mean, std = self._vae_encoder({"image": image}).values()
        return mean, std

    @cached_property
    def _vae_encoder(self) -> Graph:
        return self._open_encoder()


def _first(outputs: Mapping[str, Floats]) -> Floats:
    return next(iter(outputs.values()))


def open_engine(
    target: Target,
    files: Mapping[str, Path],
    threads: int,
    gpu_bytes: int | None = None,
    gpu_graphs: int = 0,
    kept: CompiledGraphs | None = None,
    static: Mapping[str, StaticShapes] | None = None,
) -> Engine:
    """Compile a target's components for this machine. `files` maps bundle paths to verified local files; `gpu_bytes`
    is the most GPU memory they may take (None: no limit); `gpu_graphs` see `Bounds.graphs`. `kept` is what OpenVINO
    compiled at earlier starts, and `static` by component the calls that it compiles graphs of their own for.

    Raises: EngineIncompatible where its library does not start here, or that memory is too little.
    """
    at_once = [*COMPONENTS, *(name for name in target.components if name.startswith(CONTROLNET))]
    sizes = component_sizes(target, files)
    shares = {} if gpu_bytes is None else memory_shares(sizes, gpu_bytes)
    if shares:  # what sessions for graphs hold again comes out of the UNet's own share, half of what it has to work in
        gpu_graphs = min(gpu_graphs, (shares["unet"] - sizes["unet"]) // (2 * sizes["unet"]))
    bounds = Bounds(shares, target.profile.rows[-1] if target.profile else None, gpu_graphs)

    def load(names: Sequence[str]) -> Mapping[str, Graph]:
        components = {name: files[target.components[name]] for name in names}
        if target.format == "openvino":
            from runtime.engines import openvino

            return openvino.load_graphs(components, target.options, threads, kept, static or {})
        from runtime.engines import onnxruntime

        return onnxruntime.load_graphs(components, target.options, threads, bounds)

    return GraphEngine(load(at_once), lambda: load([ENCODER])[ENCODER])


def component_sizes(target: Target, files: Mapping[str, Path]) -> dict[str, int]:
    """Bytes of each component's files: its graph, and what is called after it (weights, an engine)."""
    stems = {name: path.rpartition(".")[0] for name, path in target.components.items()}
    return {
        name: sum(files[path].stat().st_size for path in target.files if path.startswith(stem))
        for name, stem in stems.items()
    }
