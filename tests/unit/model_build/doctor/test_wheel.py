"""What is kept of the onnxruntime-gpu wheel is what its binaries hold, and is that of the pinned version."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import onnxruntime
import pytest

from darkroom.gpu import PROVIDERS, wheel_facts
from model_build.doctor.wheel import needed, read

ROOT = Path(__file__).parents[4]


def test_the_facts_are_those_of_the_pinned_version() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    pinned = next(line for line in extras["gpu"] if line.startswith("onnxruntime-gpu"))
    assert pinned.endswith(f"=={wheel_facts()['version']}")
    assert f"onnxruntime=={wheel_facts()['version']}" in extras["build"], "both are built from one source"
    (tensorrt,) = (line for line in extras["gpu"] if line.startswith("tensorrt"))
    linked = next(name for name in wheel_facts()["links"]["TensorrtExecutionProvider"] if "nvinfer" in name)
    assert tensorrt.partition("==")[2].split(".")[0] == linked.rpartition(".")[2], "TensorRT of the major it links"


def test_the_libraries_an_elf_file_links() -> None:
    library = next((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime_providers_shared.so"))
    found = needed(library.read_bytes())
    assert "libstdc++.so.6" in found
    assert all(name.startswith(("lib", "ld-linux")) for name in found)


def test_the_keys_of_sessions_and_runs_are_known_to_the_library_that_tests_run_with() -> None:
    (binding,) = (Path(onnxruntime.__file__).parent / "capi").glob("onnxruntime_pybind11_state*.so")
    content = binding.read_bytes()
    assert all(f"\0{key}\0".encode() in content for key in wheel_facts()["keys"])
    assert set(wheel_facts()["options"]) == set(PROVIDERS)


@pytest.mark.skipif("ONNXRUNTIME_GPU_WHEEL" not in os.environ, reason="ONNXRUNTIME_GPU_WHEEL names no wheel to read")
def test_the_wheel_holds_what_is_kept_of_it() -> None:
    assert read(Path(os.environ["ONNXRUNTIME_GPU_WHEEL"])) == wheel_facts()
