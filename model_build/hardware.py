"""Hardware and software: what the figures of a report were taken on."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from darkroom.processors import processors

_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
_ALSO = {"onnxruntime": ("onnxruntime-gpu",)}
LIBRARIES = (
    *("diffusers", "numpy", "onnx", "onnxruntime", "onnxscript", "openvino"),
    *("safetensors", "tokenizers", "torch", "transformers"),
)


def installed(library: str) -> str:
    """A library's version; ONNX Runtime's under either of its distributions' names."""
    for name in (library, *_ALSO.get(library, ())):
        with suppress(PackageNotFoundError):
            return version(name)
    return version(library)


def threads() -> int:
    """CPUs this process may use; both sides of a comparison get as many threads."""
    return processors()


def hardware() -> dict[str, Any]:
    """The processor's name and the features engines care about, CPUs this process may use, memory in bytes."""
    cpuinfo = _cpuinfo()
    flags = cpuinfo.get("flags", cpuinfo.get("Features", "")).split()
    return {
        "processor": cpuinfo.get("model name") or platform.processor() or platform.machine(),
        "architecture": platform.machine(),
        "cpus": threads(),
        "cpu_features": [feature for feature in _FEATURES if feature in flags],
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    }


def libraries() -> dict[str, str]:
    """Version of every library that has a hand in a bundle."""
    return {library: installed(library) for library in LIBRARIES}


def software() -> dict[str, str]:
    return {"system": platform.system(), "python": platform.python_version(), **libraries()}


def _cpuinfo() -> dict[str, str]:
    """The first processor of /proc/cpuinfo; empty off Linux."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().split("\n\n")[0].splitlines() if path.exists() else []
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
