"""What every trainer shares: device, per-step randomness, and a state file to resume from."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import nn

from crayon.training.averaging import WeightAverage

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


def step_seed(seed: int, step: int) -> int:
    """The seed of one step's randomness: a resumed run draws what an uninterrupted one would have drawn."""
    return seed * 1_000_003 + step


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Sets every group's rate to `learning_rate` times the group's own `scale` (1 where it has none)."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group.get("scale", 1.0)


def save_state(
    path: Path,
    step: int,
    modules: Sequence[nn.Module],
    optimizers: Sequence[torch.optim.Optimizer],
    average: WeightAverage,
) -> None:
    """Writes everything the next step depends on; a crash while writing leaves the former file."""
    state = {
        "step": step,
        "modules": [module.state_dict() for module in modules],
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        "average": average.values,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    torch.save(state, unfinished)
    unfinished.replace(path)


def load_state(
    path: Path,
    modules: Sequence[nn.Module],
    optimizers: Sequence[torch.optim.Optimizer],
    average: WeightAverage,
    device: torch.device,
) -> int:
    """Restores what `save_state` wrote and returns the number of steps done; 0 if there is no file."""
    if not path.exists():
        return 0
    state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    for module, saved in zip(modules, state["modules"], strict=True):
        module.load_state_dict(saved)
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    average.load(state["average"])
    return int(state["step"])


def limit_threads(count: int) -> None:
    """Keeps torch to `count` threads that sleep when idle: spinning ones starve each other on a busy machine."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    torch.set_num_threads(count)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes `content` sorted and indented, with a final newline."""
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
