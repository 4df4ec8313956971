"""The GPU's memory divided among sessions; a provider that does not start is no silent fallback."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest

from darkroom.errors import EngineIncompatible
from darkroom.gpu import CUDA
from runtime.engines import open_engine
from runtime.engines.onnxruntime import open_session
from runtime.engines.session import memory_shares

GIB = 1 << 30


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
