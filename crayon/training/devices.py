"""Where training computes: the device, how many threads, and how weights are laid out there."""

import os
from typing import Any, TypeVar, cast

import torch
from torch import nn

_Module = TypeVar("_Module", bound=nn.Module)


def resolve_device(name: str) -> torch.device:
    """`auto` is the GPU where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def on_device(module: _Module, device: torch.device) -> _Module:
    """The module itself, moved; the libraries' own `to` are typed too loosely for this."""
    nn.Module.to(module, device)
    return module


def channels_last(module: _Module, device: torch.device) -> _Module:
    """The module itself, moved, its convolutions laid out as CPUs and GPUs like them best."""
    cast(Any, module).to(device=device, memory_format=torch.channels_last)
    return module


def limit_threads(count: int) -> None:
    """Keeps torch to `count` threads that sleep when idle: spinning ones starve each other on a busy machine."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    torch.set_num_threads(count)
