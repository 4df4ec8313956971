"""What of a GPU's memory is taken, by all processes together: asked of NVML, which makes no context and takes none."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

_LIBRARY = "libnvidia-ml.so.1"


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


def used(open_library: Callable[[str], Any] = ctypes.CDLL) -> int:
    """Bytes taken of the first GPU; 0 where NVML is not there or does not tell."""
    try:
        nvml = open_library(_LIBRARY)
    except OSError:
        return 0
    device, memory = ctypes.c_void_p(), _Memory()
    if nvml.nvmlInit_v2() or nvml.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(device)):
        return 0
    if nvml.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory)):
        return 0
    return int(memory.used)
