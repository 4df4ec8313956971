"""Asks the NVIDIA driver what GPU there is: the driver's own library alone, no context made, no memory taken."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_DRIVER = "libcuda.so.1"
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR of cuda.h
_NAME_BYTES = 256
_MEANINGS = {
    35: "it is older than the CUDA libraries",
    100: "it sees no device",
    803: "its kernel module is of another version",
    804: "this GPU does not allow forward compatibility",
    999: "it gives no reason",
}


class NoGpu(Exception):
    """Why there is no GPU to use, as the second half of a sentence."""


@dataclass(frozen=True)
class Gpu:
    """One GPU: its architecture as NVIDIA writes it (`sm90`), memory in bytes, and the newest CUDA its driver runs."""

    name: str
    architecture: str
    memory_bytes: int
    cuda: str


def find_gpu(open_library: Callable[[str], Any] = ctypes.CDLL) -> Gpu:
    """The first GPU that CUDA_VISIBLE_DEVICES leaves visible. Raises: NoGpu."""
    try:
        driver = open_library(_DRIVER)
    except OSError:
        raise NoGpu(f"there is no NVIDIA driver ({_DRIVER} is missing)") from None
    _ask(driver.cuInit, 0)
    count, device, version = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    _ask(driver.cuDeviceGetCount, ctypes.byref(count))
    if not count.value:
        raise NoGpu("the NVIDIA driver sees no device")
    _ask(driver.cuDeviceGet, ctypes.byref(device), 0)
    name, memory = ctypes.create_string_buffer(_NAME_BYTES), ctypes.c_size_t()
    _ask(driver.cuDeviceGetName, name, _NAME_BYTES, device)
    _ask(driver.cuDeviceTotalMem_v2, ctypes.byref(memory), device)
    _ask(driver.cuDriverGetVersion, ctypes.byref(version))
    capability = []
    for attribute in (_MAJOR, _MINOR):
        value = ctypes.c_int()
        _ask(driver.cuDeviceGetAttribute, ctypes.byref(value), attribute, device)
        capability.append(value.value)
    major, minor = divmod(version.value, 1000)
    return Gpu(
        name=name.value.decode(errors="replace"),
        architecture=f"sm{capability[0]}{capability[1]}",
        memory_bytes=memory.value,
        cuda=f"{major}.{minor // 10}",
    )


def _ask(call: Callable[..., int], *arguments: Any) -> None:
    """Call the driver; every call answers 0 or an error of cuda.h."""
    code = call(*arguments)
    if code:
        raise NoGpu(f"the NVIDIA driver does not start: {_MEANINGS.get(code, 'see cuda.h')} (error {code})")
