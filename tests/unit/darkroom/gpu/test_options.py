"""What a GPU provider is told: every name is one the pinned library has."""

from __future__ import annotations

from pathlib import Path

import pytest

from darkroom.gpu import CUDA, TENSORRT, captures, provider_options, wheel_facts

GRAPH = Path("/bundle/unet.onnx")
GIB = 1 << 30


@pytest.mark.parametrize("provider", [CUDA, TENSORRT])
@pytest.mark.parametrize("options", [{}, {"trt_weight_stripped_engine_enable": "1"}])
def test_every_option_is_one_of_the_pinned_library(provider: str, options: dict[str, str]) -> None:
    told = provider_options(provider, {"provider": provider, **(options if provider == TENSORRT else {})}, GRAPH, GIB)
    assert set(told) <= set(wheel_facts()["options"][provider])
    assert all(isinstance(value, str) for value in told.values())


def test_a_cuda_session_stays_within_its_share() -> None:
    told = provider_options(CUDA, {"provider": CUDA, "enable_cuda_graph": "1"}, GRAPH, 3 * GIB, capture=True)
    assert told["gpu_mem_limit"] == str(3 * GIB)
    assert told["enable_cuda_graph"] == "1"
    assert "gpu_mem_limit" not in provider_options(CUDA, {}, GRAPH, None)


def test_a_stripped_engine_finds_its_weights_beside_it() -> None:
    options = {"trt_weight_stripped_engine_enable": "1"}
    assert provider_options(TENSORRT, options, GRAPH, None)["trt_onnx_model_folder_path"] == "/bundle"
    assert "trt_onnx_model_folder_path" not in provider_options(TENSORRT, {}, GRAPH, None)


@pytest.mark.parametrize(("provider", "option"), [(CUDA, "enable_cuda_graph"), (TENSORRT, "trt_cuda_graph_enable")])
def test_runs_are_captured_only_for_a_caller_with_fixed_buffers(provider: str, option: str) -> None:
    options = {"provider": provider, option: "1"}
    assert captures(options)
    assert not captures({"provider": provider})
    assert option not in provider_options(provider, options, GRAPH)
    assert provider_options(provider, options, GRAPH, capture=True)[option] == "1"
    assert option in wheel_facts()["options"][provider]
