"""What a GPU provider is told: every name is one the pinned library has; memory is divided without a rest left over."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest

from darkroom.errors import EngineIncompatible
from darkroom.gpu import wheel_facts
from runtime.engines import open_engine
from runtime.engines.onnxruntime import open_session
from runtime.engines.session import CUDA, TENSORRT, memory_shares, provider_options

GRAPH = Path("/bundle/unet.onnx")
GIB = 1 << 30


@pytest.mark.parametrize("provider", [CUDA, TENSORRT])
@pytest.mark.parametrize("options", [{}, {"trt_weight_stripped_engine_enable": "1"}])
def test_every_option_is_one_of_the_pinned_library(provider: str, options: dict[str, str]) -> None:
    told = provider_options(provider, {"provider": provider, **(options if provider == TENSORRT else {})}, GRAPH, GIB)
    assert set(told) <= set(wheel_facts()["options"][provider])
    assert all(isinstance(value, str) for value in told.values())


def test_a_cuda_session_stays_within_its_share() -> None:
    told = provider_options(CUDA, {"provider": CUDA, "enable_cuda_graph": "1"}, GRAPH, 3 * GIB)
    assert told["gpu_mem_limit"] == str(3 * GIB)
    assert told["enable_cuda_graph"] == "1"
    assert "gpu_mem_limit" not in provider_options(CUDA, {}, GRAPH, None)


def test_a_stripped_engine_finds_its_weights_beside_it() -> None:
    options = {"trt_weight_stripped_engine_enable": "1"}
    assert provider_options(TENSORRT, options, GRAPH, None)["trt_onnx_model_folder_path"] == "/bundle"
    assert "trt_onnx_model_folder_path" not in provider_options(TENSORRT, {}, GRAPH, None)


def test_memory_is_divided_after_the_weights() -> None:
    weights = {"text_encoder": GIB, "unet": 3 * GIB, "vae_decoder": GIB}
    shares = memory_shares(weights, 10 * GIB)
    assert sum(shares.values()) == pytest.approx(10 * GIB, abs=3)
    assert {name: share - weights[name] for name, share in shares.items()} == {
        "text_encoder": GIB // 2,
        "unet": 3 * GIB,
        "vae_decoder": int(1.5 * GIB),
    }


def test_weights_that_do_not_fit() -> None:
    said = (
        r"^The weights take 3\.0 GiB and this process may take 2\.5 GiB of the GPU; raise RUNTIME_GPU_MEMORY_FRACTION"
    )
    with pytest.raises(EngineIncompatible, match=said):
        memory_shares({"unet": 2 * GIB, "vae_decoder": GIB}, int(2.5 * GIB))


def test_a_component_takes_its_weights_and_all_that_is_called_after_it(tmp_path: Path, manifest) -> None:
    sizes = {"a/unet.onnx": 1, "a/unet.onnx.data": 3 * GIB, "a/vae_decoder.onnx": 1, "a/vae_encoder.onnx": 1}
    files = {path: tmp_path / path.replace("/", "-") for path in sizes}
    for path, size in sizes.items():
        with files[path].open("wb") as file:
            file.truncate(size)
    components = {name: f"a/{name}.onnx" for name in ("unet", "vae_decoder", "vae_encoder")}
    target = manifest.targets[0].model_copy(update={"components": components, "files": list(sizes)})
    with pytest.raises(EngineIncompatible, match=r"^The weights take 3\.0 GiB"):
        open_engine(target, files, 1, 2 * GIB)


def test_a_provider_that_is_not_there_is_no_silent_fallback(tmp_path: Path) -> None:
    if CUDA in onnxruntime.get_available_providers():
        pytest.skip("this library has the CUDA provider")
    with pytest.raises(EngineIncompatible, match="has no CUDAExecutionProvider"):
        open_session(tmp_path / "unet.onnx", onnxruntime.SessionOptions(), CUDA, {})
