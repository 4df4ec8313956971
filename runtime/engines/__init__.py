"""Engine: the compiled networks of a bundle behind three calls, whatever library runs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from darkroom.manifest import Target
from runtime.arrays import Floats, Ids

COMPONENTS = ("text_encoder", "unet", "vae_decoder")


class Engine(Protocol):
    """All calls come from one thread. They raise MemoryError where memory ran out; anything else is a failure.

    Results belong to the caller. For equal inputs, shapes included, they are bitwise equal.
    """

    def encode(self, input_ids: Ids) -> Floats:
        """int64 [n, L] -> prompt embeddings, float32 [n, L, D]."""

    def predict(self, latents: Floats, timestep: Floats, **conditioning: Floats) -> Floats:
        """float32 [rows, C, h, w] and [rows] -> the UNet's output, float32 [rows, C, h, w].

        `conditioning` is all else the UNet takes, by its inputs' names: float32 [rows, ...], with `prompt_embeds`
        [rows, L, D] always among them.
        """

    def decode(self, latents: Floats) -> Floats:
        """float32 [n, C, h, w], unscaled -> images, float32 [n, 3, H, W], about [-1, 1]."""


class Graph(Protocol):
    """One compiled network: arrays in by name, its only output out. Raises as `Engine` says."""

    def __call__(self, inputs: Mapping[str, Floats | Ids]) -> Floats: ...


class GraphEngine:
    """An Engine made of one graph per component, with the names that the build stage gives their inputs."""

    def __init__(self, graphs: Mapping[str, Graph]) -> None:
        self._text_encoder, self._unet, self._vae_decoder = (graphs[name] for name in COMPONENTS)

    def encode(self, input_ids: Ids) -> Floats:
        return self._text_encoder({"input_ids": input_ids})

    def predict(self, latents: Floats, timestep: Floats, **conditioning: Floats) -> Floats:
        return self._unet({"latents": latents, "timestep": timestep, **conditioning})

    def decode(self, latents: Floats) -> Floats:
        return self._vae_decoder({"latents": latents})


Loader = Callable[[Mapping[str, Path], Mapping[str, str], int], Mapping[str, Graph]]


def open_engine(target: Target, files: Mapping[str, Path], threads: int) -> Engine:
    """Compile a target's components for this machine. `files` maps bundle paths to verified local files."""
    components = {name: files[target.components[name]] for name in COMPONENTS}
    return GraphEngine(_LOADERS[target.format](components, target.options, threads))


def _openvino(components: Mapping[str, Path], options: Mapping[str, str], threads: int) -> Mapping[str, Graph]:
    from runtime.engines.openvino import load_graphs

    return load_graphs(components, options, threads)


def _onnxruntime(components: Mapping[str, Path], options: Mapping[str, str], threads: int) -> Mapping[str, Graph]:
    from runtime.engines.onnxruntime import load_graphs

    return load_graphs(components, options, threads)


_LOADERS: dict[str, Loader] = {"openvino": _openvino, "onnxruntime": _onnxruntime}
