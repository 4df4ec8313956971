"""The NVIDIA GPU of this machine, and the libraries its engines need; nothing of either is loaded at import."""

from darkroom.gpu.driver import Gpu, NoGpu, find_gpu
from darkroom.gpu.libraries import (
    PROVIDERS,
    Shortage,
    preload,
    search_folders,
    shortages,
    tensorrt_version,
    wheel_facts,
)

__all__ = [
    "PROVIDERS",
    "Gpu",
    "NoGpu",
    "Shortage",
    "find_gpu",
    "preload",
    "search_folders",
    "shortages",
    "tensorrt_version",
    "wheel_facts",
]
