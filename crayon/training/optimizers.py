"""Optimizers: torch's Muon for the matrices inside a module, AdamW for all else."""

from typing import Any

import torch
from torch import nn


def optimizers_for(
    module: nn.Module, learning_rate: float, weight_decay: float, apart: tuple[str, ...]
) -> list[torch.optim.Optimizer]:
    """Muon for the module's hidden matrices; AdamW for vectors and for every weight whose name has a part in `apart`.

    The layers that face the data (first, last, embeddings) belong in `apart`: their rows are not interchangeable.
    """
    hidden: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        facing = any(part in name.split(".") for part in apart)
        (hidden if parameter.ndim >= 2 and not facing else rest).append(parameter)
    # Muon takes matrices only. A convolution is one, its trailing dimensions in the order that they have in memory, so
    # that the matrix is a view of the weight and not a copy.
    matrices = [nn.Parameter(_in_memory_order(weight, weight).view(len(weight), -1)) for weight in hidden]
    # Updates as large, entry by entry, as AdamW's, so that both can share one learning rate.
    muon = torch.optim.Muon(matrices, learning_rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")

    def take_gradients(*_: Any) -> None:
        for weight, matrix in zip(hidden, matrices, strict=True):
            gradient = weight.grad
            matrix.grad = None if gradient is None else _in_memory_order(gradient, weight).reshape(matrix.shape)

    muon.register_step_pre_hook(take_gradients)
    return [muon, torch.optim.AdamW(rest, learning_rate, (0.9, 0.99), weight_decay=weight_decay)]


def _in_memory_order(tensor: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """`tensor` with its dimensions as `weight` lays them out: as they are, or channels last."""
    return tensor.detach() if weight.is_contiguous() else tensor.detach().movedim(1, -1)


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Sets every group's rate to `learning_rate` times the group's own `scale` (1 where it has none)."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group.get("scale", 1.0)
