"""NVIDIA's Multi-Process Service: whether CUDA would use it here, and this process's limits under it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path

_PIPES, _DEFAULT = "CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps"  # noqa: S108 - NVIDIA's own default
_CONTROL = "nvidia-cuda-mps-control.pid"  # in that folder, from the daemon while it runs
_MEMORY, _THREADS = "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT", "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"
_ASK = "from darkroom import gpu; print(gpu.find_gpu().memory_bytes)"


@dataclass(frozen=True)
class Mps:
    """What a process started in this environment gets: `memory` as `0=4096M` (device 0), `threads` in percent."""

    folder: str
    memory: str | None = None
    threads: str | None = None

    def __str__(self) -> str:
        memory = "all of the memory" if self.memory is None else f"memory {self.memory}"
        return f"MPS at {self.folder}: {memory}, {self.threads or 100} % of the processors"


def find_mps(environment: Mapping[str, str] | None = None) -> Mps | None:
    """MPS as CUDA would find it; None where its control daemon's file is not there. The daemon itself is not asked."""
    source = os.environ if environment is None else environment
    folder = source.get(_PIPES) or _DEFAULT
    if not (Path(folder) / _CONTROL).exists():
        return None
    return Mps(folder, source.get(_MEMORY) or None, source.get(_THREADS) or None)


def keep_to(fraction: float, environment: MutableMapping[str, str], memory: Callable[[], int | None]) -> Mps | None:
    """Bound this process's allocations under MPS to a fraction of the GPU's memory, unless somebody has already.

    CUDA reads the limit when it starts, so that this has to come before anything asks the driver; `memory` gives the
    GPU's bytes without doing so in this process, None where it cannot.
    """
    mps = find_mps(environment)
    if mps is None or mps.memory is not None or fraction >= 1:
        return mps
    total = memory()
    if total is not None:
        environment[_MEMORY] = f"0={int(total * fraction) >> 20}M"
    return find_mps(environment)


def memory_asked_elsewhere() -> int | None:
    """The GPU's memory in bytes, asked in a process of its own; None where there is no GPU."""
    completed = subprocess.run([sys.executable, "-c", _ASK], capture_output=True, text=True, check=False)  # noqa: S603
    return int(completed.stdout) if completed.returncode == 0 else None
