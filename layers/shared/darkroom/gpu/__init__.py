"""The NVIDIA GPU of this machine, and the libraries its engines need; nothing of either is loaded at import."""

from darkroom.gpu.driver import Gpu, NoGpu, find_gpu
from darkroom.gpu.libraries import Shortage, preload, search_folders, shortages, tensorrt_version, wheel_facts
from darkroom.gpu.options import CUDA, PROVIDERS, TENSORRT, captures, provider_options

__all__ = [
    "CUDA",
    "PROVIDERS",
    "TENSORRT",
    "Gpu",
    "NoGpu",
    "Shortage",
    "captures",
    "find_gpu",
    "preload",
    "provider_options",
    "search_folders",
    "shortages",
    "tensorrt_version",
    "wheel_facts",
]
