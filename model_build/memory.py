"""Memory that stages leave behind them, given back before the next one needs it."""

from __future__ import annotations

import ctypes
import gc
from typing import Any


def give_back() -> None:
    """Collect garbage, then have the C library return freed memory to the system (malloc_trim(3), where there is one).

    After gigabytes of short-lived tensors it keeps nearly half of a process's memory for later use.
    """
    gc.collect()  # modules and traced graphs refer to one another
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def empty(module: Any) -> None:
    """Free the weights of a torch module, which cannot be used afterwards; anything else is left alone.

    Dropping the module is not enough: torch's exporter keeps all that it has traced until the process ends.
    """
    import torch

    for tensor in (*module.parameters(), *module.buffers()) if isinstance(module, torch.nn.Module) else ():
        tensor.data = torch.empty(0)
