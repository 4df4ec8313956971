"""Reads the onnxruntime-gpu wheel: `python -m model_build.doctor.wheel WHEEL` writes what its binaries hold as JSON.

The wheel is a quarter of a gigabyte and needs no GPU to be read, so its facts are kept beside the code that relies on
them, with the version and hash of the file they were read from.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
import sys
import zipfile
from pathlib import Path
from typing import Any

from darkroom.gpu import libraries

_PROVIDERS = {
    "CUDAExecutionProvider": "onnxruntime/capi/libonnxruntime_providers_cuda.so",
    "TensorrtExecutionProvider": "onnxruntime/capi/libonnxruntime_providers_tensorrt.so",
}
_BINDING = re.compile(r"onnxruntime/capi/onnxruntime_pybind11_state.*\.so")
_TENSORRT_OPTIONS = re.compile(rb"(?<=\0)(?:trt_[a-z0-9_]+|device_id)(?=\0)")
_CUDA_OPTIONS = re.compile(
    rb"(?<=\0)(?:device_id|gpu_mem_limit|arena_extend_strategy|enable_[a-z_]+|prefer_nhwc|use_tf32|sdpa_kernel"
    rb"|do_copy_in_default_stream|cudnn_conv_[a-z0-9_]+|fuse_conv_bias|use_ep_level_unified_stream)(?=\0)"
)
_KEYS = re.compile(rb"(?<=\0)(?:ep\.context_[a-z_]+|session\.disable_cpu_ep_fallback|gpu_graph_id)(?=\0)")
_NVIDIA = re.compile(r"lib(cublas|cublasLt|cudart|cudnn|curand|nvinfer|nvonnxparser)\.so\.\d+")
# The CUDA provider opens cuDNN when the first convolution needs it, so it is not among what it links.
_OPENED_LATER = {"CUDAExecutionProvider": ["libcudnn.so.9"]}


def read(wheel: Path) -> dict[str, Any]:
    """Versions of it and of CUDA, SHA-256, each provider's option names and linked libraries, session and run keys."""
    with zipfile.ZipFile(wheel) as archive:
        providers = {name: archive.read(path) for name, path in _PROVIDERS.items()}
        binding = archive.read(next(name for name in archive.namelist() if _BINDING.fullmatch(name)))
        about = archive.read("onnxruntime/capi/build_and_package_info.py").decode()
    cuda = re.findall(r"^cuda_version = '([0-9.]+)'$", about, re.MULTILINE)[0]
    with wheel.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "wheel": wheel.name,
        "version": wheel.name.split("-")[1],
        "sha256": digest,
        "cuda": cuda,
        "links": {
            name: sorted({*filter(_NVIDIA.fullmatch, needed(binary)), *_OPENED_LATER.get(name, ())}, key=_load_order)
            for name, binary in providers.items()
        },
        "options": {
            "CUDAExecutionProvider": _strings(_CUDA_OPTIONS, providers["CUDAExecutionProvider"]),
            "TensorrtExecutionProvider": _strings(_TENSORRT_OPTIONS, providers["TensorrtExecutionProvider"], binding),
        },
        "keys": _strings(_KEYS, binding),
    }


def needed(binary: bytes) -> list[str]:
    """The sonames that a 64-bit little-endian ELF library links (DT_NEEDED of its dynamic section; see elf(5))."""
    (table,) = struct.unpack_from("<Q", binary, 32)
    size, count = struct.unpack_from("<HH", binary, 54)
    headers = [struct.unpack_from("<IIQQQQ", binary, table + index * size) for index in range(count)]
    segments = [(address, offset, length) for kind, _, offset, address, _, length in headers if kind == 1]
    dynamic, length = next((offset, length) for kind, _, offset, _, _, length in headers if kind == 2)
    entries = [struct.unpack_from("<QQ", binary, dynamic + index) for index in range(0, length, 16)]
    address = next(value for tag, value in entries if tag == 5)
    strings = next(at - start + address for start, at, room in segments if start <= address < start + room)
    return [_text(binary, strings + value) for tag, value in entries if tag == 1]


def _text(binary: bytes, start: int) -> str:
    return binary[start : binary.index(b"\0", start)].decode()


def _load_order(library: str) -> tuple[int, str]:
    """libcublas needs libcublasLt, and all of them libcudart."""
    first = ("libcudart", "libcublasLt", "libcublas")
    stem = library.partition(".")[0]
    return (first.index(stem) if stem in first else len(first), library)


def _strings(pattern: re.Pattern[bytes], *binaries: bytes) -> list[str]:
    return sorted({match.decode() for binary in binaries for match in pattern.findall(binary)})


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m model_build.doctor.wheel WHEEL")
    facts = read(Path(sys.argv[1]))
    Path(libraries.__file__).with_name("onnxruntime_gpu.json").write_text(json.dumps(facts, indent=1) + "\n")
