"""Memory that stages leave behind them, given back before the next one needs it."""

from __future__ import annotations

import ctypes
import gc
from typing import Any


def give_back() -> None:
    """Let go of what nothing refers to, and of what the C library keeps for later once it is freed: after gigabytes of
    short-lived tensors nearly half of a process (malloc_trim(3); nothing more where the C library has no such call).
    """
    gc.collect()  # modules and traced graphs refer to one another
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def empty(module: Any) -> None:
    """Free the weights of a torch module, which is of no more use then. To let go of it is not enough: torch's exporter
    holds on to all that it has traced, until the process ends. What is no module has none.
    """
    import torch

    for tensor in (*module.parameters(), *module.buffers()) if isinstance(module, torch.nn.Module) else ():
        tensor.data = torch.empty(0)
