"""The NVIDIA GPU of this machine, and the libraries its engines need; nothing of either is loaded at import."""

from darkroom.gpu.driver import Gpu, NoGpu, find_gpu
from darkroom.gpu.libraries import preload, search_folders, shortages, tensorrt_version, wheel_facts
from darkroom.gpu.mps import find_mps, keep_to, memory_asked_elsewhere
from darkroom.gpu.options import CUDA, GRAPHS, PROVIDERS, TENSORRT, captures, provider_options

__all__ = [
    "CUDA",
    "GRAPHS",
    "PROVIDERS",
    "TENSORRT",
    "Gpu",
    "NoGpu",
    "captures",
    "find_gpu",
    "find_mps",
    "keep_to",
    "memory_asked_elsewhere",
    "preload",
    "provider_options",
    "search_folders",
    "shortages",
    "tensorrt_version",
    "wheel_facts",
]
