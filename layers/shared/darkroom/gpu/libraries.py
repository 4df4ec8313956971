"""The shared libraries ONNX Runtime's GPU providers link: which are there, missing, or of another major version."""

from __future__ import annotations

import ctypes
import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from darkroom.gpu.options import TENSORRT

# Written by `python -m model_build.doctor.wheel` from the binaries of the pinned wheel.
_WHEEL = Path(__file__).with_name("onnxruntime_gpu.json")
_CONFIGURED = Path("/etc/ld.so.conf.d")
_STANDARD = ("/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/local/cuda/lib64")
_WHEELS = ("nvidia/*/lib", "tensorrt_libs")  # where NVIDIA's Python distributions keep theirs
_TENSORRT = ("tensorrt-cu13-libs", "tensorrt-cu13")


@dataclass(frozen=True)
class Shortage:
    """A library that a provider links and this machine lacks; `others` are the files found of other versions."""

    library: str
    others: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.others:
            return f"{self.library} is missing"
        return f"{self.library} is missing ({', '.join(self.others)} is of the wrong version)"


def wheel_facts() -> dict[str, Any]:
    """What the pinned onnxruntime-gpu wheel holds: version, SHA-256, option names, keys, linked libraries."""
    facts: dict[str, Any] = json.loads(_WHEEL.read_text())
    return facts


def search_folders(environment: Mapping[str, str] | None = None, packages: Sequence[str] | None = None) -> list[Path]:
    """Where libraries are looked for: LD_LIBRARY_PATH, NVIDIA's Python distributions, the system's folders."""
    source = os.environ if environment is None else environment
    listed = [Path(part) for part in source.get("LD_LIBRARY_PATH", "").split(":") if part]
    roots = [Path(root) for root in (sys.path if packages is None else packages) if root]
    wheels = [folder for root in roots for pattern in _WHEELS for folder in sorted(root.glob(pattern))]
    configured = [
        Path(line.strip())
        for file in sorted(_CONFIGURED.glob("*.conf"))
        for line in file.read_text(errors="replace").splitlines()
        if line.startswith("/")
    ]
    return list(dict.fromkeys((*listed, *wheels, *configured, *map(Path, _STANDARD))))


def shortages(provider: str, folders: Sequence[Path]) -> list[Shortage]:
    """What a provider links and these folders lack, the driver's own library apart."""
    missing = []
    for library in wheel_facts()["links"][provider]:
        if _find(library, folders) is None:
            stem = library.partition(".so")[0]
            others = {file.name for folder in folders for file in folder.glob(f"{stem}.so.*")}
            missing.append(Shortage(library, tuple(sorted(others))))
    return missing


def preload(provider: str, folders: Sequence[Path], open_library: Callable[..., Any] = ctypes.CDLL) -> None:
    """Load what a provider links, so that the provider finds it: Python distributions are on no loader's path.

    What is missing is left out; `shortages` tells.
    """
    for library in wheel_facts()["links"][provider]:
        path = _find(library, folders)
        if path is not None:
            open_library(str(path), mode=ctypes.RTLD_GLOBAL)


def tensorrt_version(folders: Sequence[Path]) -> str | None:
    """`10.16.1` where libnvinfer is there, as its file or its distribution is called; None where it is not."""
    linked: list[str] = wheel_facts()["links"][TENSORRT]
    library = next(name for name in linked if name.startswith("libnvinfer."))
    path = _find(library, folders)
    if path is None:
        return None
    numbered = re.search(r"\.so\.(\d+\.\d+\.\d+)", path.resolve().name)
    if numbered:
        return numbered[1]
    for distribution in _TENSORRT:
        try:
            return ".".join(version(distribution).split(".")[:3])
        except PackageNotFoundError:
            continue
    return library.rpartition(".")[2]


def _find(library: str, folders: Sequence[Path]) -> Path | None:
    return next((folder / library for folder in folders if (folder / library).is_file()), None)
