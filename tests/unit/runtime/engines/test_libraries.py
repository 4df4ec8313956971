"""Both engine libraries behind one face: memory that ran out is MemoryError, and outputs are the caller's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from runtime.engines import GraphEngine
from runtime.engines.onnxruntime import OnnxGraph
from runtime.engines.openvino import OpenVinoGraph

BUFFER = np.ones((1, 2), np.float32)


class Library:
    """What both libraries have in common, and `fault` to raise instead."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.fault = fault
        self.fed: Any = None
        self.name = "out"
        self.outputs = [self]

    def get_names(self) -> set[str]:
        return {self.name}

    def create_infer_request(self) -> Library:
        return self

    def get_outputs(self) -> list[Library]:
        return [self]

    def infer(self, inputs: Any, **_: Any) -> list[Any]:
        self.fed = inputs
        if self.fault is not None:
            raise self.fault
        return [BUFFER]

    def run(self, names: list[str], inputs: Any) -> list[Any]:
        assert names == ["out"]
        return self.infer(inputs)


class Encoder:
    """Has two outputs, which the other libraries' stand-in has not."""

    def __init__(self, graph: OpenVinoGraph) -> None:
        self.graph = graph

    def __call__(self, inputs: Any) -> dict[str, str]:
        self.graph(inputs)
        return {"mean": "mean", "std": "std"}


GRAPHS = [OpenVinoGraph, OnnxGraph]


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("text", ["std::bad_alloc", "Failed to allocate memory for requested buffer", "Out of memory"])
def test_memory_that_ran_out_is_memory_error(graph, text: str) -> None:
    with pytest.raises(MemoryError):
        graph(Library(RuntimeError(text)))({})


@pytest.mark.parametrize("graph", GRAPHS)
def test_other_faults_stay_what_they_are(graph) -> None:
    with pytest.raises(RuntimeError, match="shape"):
        graph(Library(RuntimeError("wrong shape")))({})


def test_openvinos_output_is_copied_out_of_its_buffer() -> None:
    result = OpenVinoGraph(Library())({})["out"]
    assert not np.shares_memory(result, BUFFER)


def test_components_get_their_inputs_by_name() -> None:
    parts = {name: Library() for name in ("text_encoder", "unet", "vae_decoder")}
    parts |= {name: Library() for name in ("controlnet_canny", "vae_encoder")}
    graphs = {name: OpenVinoGraph(part) for name, part in parts.items()}
    engine = GraphEngine(graphs, lambda: Encoder(graphs["vae_encoder"]))
    engine.encode("ids")
    engine.predict("x", "t", prompt_embeds="embeds", time_ids="ids")
    engine.decode("z")
    assert engine.control("controlnet_canny", "x", "t", "edges", prompt_embeds="embeds").keys() == {"out"}
    assert engine.encode_image("pixels") == ("mean", "std")
    assert parts["text_encoder"].fed == {"input_ids": "ids"}
    assert parts["unet"].fed == {"latents": "x", "timestep": "t", "prompt_embeds": "embeds", "time_ids": "ids"}
    assert parts["vae_decoder"].fed == {"latents": "z"}
    control = {"latents": "x", "timestep": "t", "control_image": "edges", "prompt_embeds": "embeds"}
    assert parts["controlnet_canny"].fed == control
    assert parts["vae_encoder"].fed == {"image": "pixels"}


def test_a_graph_compiled_without_output_names_is_served_all_the_same() -> None:
    nameless = Library()
    nameless.get_names = set  # type: ignore[method-assign]
    assert list(OpenVinoGraph(nameless)({})) == ["0"]
