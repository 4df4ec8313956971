"""Exponential moving average of weights, the ones that are kept."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn


class WeightAverage:
    """Averages parameters with a decay that grows to `decay`, so that early steps are soon forgotten."""

    def __init__(self, parameters: Iterable[nn.Parameter], decay: float) -> None:
        self._parameters = list(parameters)
        self._decay = decay
        self.values = [parameter.detach().clone() for parameter in self._parameters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes in the parameters as they are after `step` steps."""
        keep = min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.values, [parameter.detach() for parameter in self._parameters], 1 - keep)

    @torch.no_grad()
    def load(self, values: list[torch.Tensor]) -> None:
        """Takes over saved averages."""
        for mine, saved in zip(self.values, values, strict=True):
            mine.copy_(saved)

    @torch.no_grad()
    def _swap(self) -> None:
        for parameter, value in zip(self._parameters, self.values, strict=True):
            current = parameter.detach().clone()
            parameter.copy_(value)
            value.copy_(current)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the parameters hold their averages."""
        self._swap()
        try:
            yield
        finally:
            self._swap()
