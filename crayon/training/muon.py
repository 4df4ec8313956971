"""The Muon optimizer: momentum whose matrices are made orthogonal before they are applied."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import nn

# The quintic of Jordan et al. (2024), "Muon: An optimizer for hidden layers in neural networks".
_QUINTIC = (3.4445, -4.7750, 2.0315)


def orthogonalized(matrix: torch.Tensor, iterations: int = 5) -> torch.Tensor:
    """The nearest matrix with all singular values close to 1, by Newton-Schulz iteration; float (rows, columns)."""
    a, b, c = _QUINTIC
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix).to(torch.bfloat16)
    x = x / (x.norm() + 1e-7)
    for _ in range(iterations):
        gram = x @ x.T
        # Fused, because at these sizes memory traffic costs more than the products.
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.T if tall else x).to(matrix.dtype)


class Muon(torch.optim.Optimizer):
    """For weights of two or more dimensions; the trailing ones count as one (a convolution is a matrix)."""

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        learning_rate: float,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
        workers: int = 1,
    ) -> None:
        """`workers` threads share the matrices of a step between them."""
        super().__init__(
            parameters, {"lr": learning_rate, "momentum": momentum, "weight_decay": weight_decay, "scale": 1.0}
        )
        self._pool = ThreadPoolExecutor(workers)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Applies one update from the gradients; returns what `closure` returns, if there is one."""
        outcome = None
        if closure is not None:
            outcome = closure()
        work = [
            (parameter, parameter.grad, group)
            for group in self.param_groups
            for parameter in group["params"]
            if parameter.grad is not None
        ]
        # Largest first, so that the threads end together.
        work.sort(key=lambda item: -item[0].numel())
        list(self._pool.map(self._update, *zip(*work, strict=True)) if work else ())
        return outcome

    @torch.no_grad()
    def _update(self, parameter: nn.Parameter, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum = state["momentum"]
        momentum.lerp_(gradient, 1 - group["momentum"])
        ahead = gradient.lerp(momentum, group["momentum"])
        update = orthogonalized(ahead.reshape(len(ahead), -1))
        # As large, entry by entry, as an Adam update, so that both optimizers can share one learning rate.
        size = 0.2 * max(update.shape) ** 0.5
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(update.reshape(parameter.shape), alpha=-group["lr"] * size)


def optimizers_for(
    module: nn.Module, learning_rate: float, weight_decay: float, apart: tuple[str, ...], workers: int = 1
) -> list[torch.optim.Optimizer]:
    """Muon for the module's hidden matrices; AdamW for vectors and for every weight whose name has a part in `apart`.

    The layers that face the data (first, last, embeddings) belong in `apart`: their rows are not interchangeable.
    """
    hidden: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        facing = any(part in name.split(".") for part in apart)
        (hidden if parameter.ndim >= 2 and not facing else rest).append(parameter)
    adam = torch.optim.AdamW(rest, learning_rate, (0.9, 0.99), weight_decay=weight_decay)
    return [Muon(hidden, learning_rate, weight_decay=weight_decay, workers=workers), adam]
