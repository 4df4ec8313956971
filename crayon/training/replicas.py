"""Data parallelism over threads: each share of a batch runs on its own core, and they meet once a step.

Where other processes want the same cores, this beats several threads inside every operation by far: those wait for the
slowest of them thousands of times a step.
"""

import copy
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TypeVar

import torch
from torch import nn

_Result = TypeVar("_Result")


class Replicas:
    """`count` copies of a module that share its weights and have gradients of their own; the first is the module."""

    def __init__(self, module: nn.Module, count: int) -> None:
        self.modules = [module, *(copy.deepcopy(module) for _ in range(count - 1))]
        self._pool = ThreadPoolExecutor(count)
        for replica in self.modules[1:]:
            for mine, shared in zip(replica.parameters(), module.parameters(), strict=True):
                mine.data = shared.data

    def map(self, work: Callable[[nn.Module, int], _Result]) -> list[_Result]:
        """`work(replica, number)` on all replicas at once, each in a thread."""
        return list(self._pool.map(work, self.modules, range(len(self.modules))))

    @torch.no_grad()
    def sum_gradients(self) -> None:
        """Moves all replicas' gradients to the module's own, added up always in the same order."""
        first, *others = self.modules
        for other in others:
            for mine, theirs in zip(first.parameters(), other.parameters(), strict=True):
                if mine.grad is not None and theirs.grad is not None:
                    mine.grad.add_(theirs.grad)
            other.zero_grad(set_to_none=True)


def shares(count: int, workers: int) -> Sequence[slice]:
    """`count` rows as `workers` consecutive, nearly equal slices."""
    edges = [count * worker // workers for worker in range(workers + 1)]
    return [slice(start, stop) for start, stop in pairwise(edges)]
