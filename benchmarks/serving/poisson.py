"""Requests that arrive by chance, and when they were answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MIX = (4, 20, 50)  # steps, each a third of the requests


@dataclass(frozen=True, eq=False)
class Arrival:
    """When a request arrives, in seconds, and how many steps it asks for."""

    at: float
    steps: int


@dataclass(frozen=True)
class Answered:
    """A request's steps, and the seconds from its arrival to its image."""

    steps: int
    seconds: float


def by_chance(count: int, rate: float, *, seed: int) -> list[Arrival]:
    """Poisson arrivals, `rate` a second, each of a third of `MIX`."""
    drawn = np.random.default_rng(seed)
    instants, steps = np.cumsum(drawn.exponential(1 / rate, count)), drawn.choice(MIX, count)
    return [Arrival(float(at), int(each)) for at, each in zip(instants, steps, strict=True)]


def all_at_once(count: int, *, seed: int) -> list[Arrival]:
    steps = np.random.default_rng(seed).permutation([MIX[index % len(MIX)] for index in range(count)])
    return [Arrival(0.0, int(each)) for each in steps]


def p95(answered: Sequence[Answered]) -> float:
    return float(np.quantile([each.seconds for each in answered], 0.95))
