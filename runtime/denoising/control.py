"""ControlNets: run for the rows of a batch that they act on; every other row gets zeros."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from darkroom.bundles.manifest import ControlSpec
from runtime.arrays import Floats
from runtime.engines import Engine

_SHAPES_KEPT = 8


@dataclass(frozen=True, eq=False)
class AppliedControl:
    """One ControlNet on one trajectory: which, on what image (float32 [3, H, W] in [0, 1]), how strongly, and when."""

    component: str
    image: Floats
    scale: float
    steps: range


class Controlled(Protocol):
    """What is seen of a trajectory here."""

    @property
    def step(self) -> int: ...

    @property
    def rows(self) -> int: ...

    @property
    def controls(self) -> Sequence[AppliedControl]: ...


def acting_steps(start: float, end: float, entry: int, steps: int) -> range:
    """The steps in which control acts, given as fractions of the steps from `entry` on; rounded as diffusers rounds."""
    run = steps - entry
    acting = [step for step in range(run) if step / run >= start and (step + 1) / run <= end]
    return range(entry + acting[0], entry + acting[-1] + 1) if acting else range(0)


class ControlNets:
    """The ControlNets of a bundle; one call of each a step, whatever trajectories there are."""

    def __init__(self, engine: Engine, spec: ControlSpec) -> None:
        self._engine = engine
        self._spec = spec
        self._nothing: OrderedDict[tuple[int, int, int], dict[str, Floats]] = OrderedDict()

    def residuals(
        self, batch: Sequence[Controlled], latents: Floats, timesteps: Floats, conditioning: Mapping[str, Floats]
    ) -> dict[str, Floats]:
        """What the UNet is to add, by its inputs' names, for all rows of the batch: scaled, summed over ControlNets.

        The others are the UNet's inputs for these rows: each ControlNet takes the same. With guidance both rows of a
        trajectory get control, as in diffusers without guess mode.
        """
        acting: dict[str, list[tuple[slice, AppliedControl]]] = defaultdict(list)
        first = 0
        for trajectory in batch:
            for control in trajectory.controls:
                if trajectory.step in control.steps:
                    acting[control.component].append((slice(first, first + trajectory.rows), control))
            first += trajectory.rows
        if not acting:
            return self._zeros(len(latents), *latents.shape[2:])
        total: dict[str, Floats] = {}
        for component, acts in acting.items():
            rows = np.concatenate([np.arange(where.start, where.stop) for where, _ in acts])
            counts = [where.stop - where.start for where, _ in acts]
            residuals = self._engine.control(
                component,
                latents[rows],
                timesteps[rows],
                np.repeat(np.stack([control.image for _, control in acts]), counts, axis=0),
                **{name: value[rows] for name, value in conditioning.items()},
            )
            _add(total, residuals, acts, len(latents))
        return total

    def _zeros(self, rows: int, height: int, width: int) -> dict[str, Floats]:
        """For a batch without control. Made once a shape: until it is written to, such memory takes no place."""
        shape = rows, height, width
        if shape not in self._nothing:
            self._nothing[shape] = {
                r.name: np.zeros((rows, r.channels, -(-height // r.shrink), -(-width // r.shrink)), np.float32)
                for r in self._spec.residuals
            }
            if len(self._nothing) > _SHAPES_KEPT:
                self._nothing.popitem(last=False)
        return self._nothing[shape]


def _add(
    total: dict[str, Floats], residuals: Mapping[str, Floats], acts: Sequence[tuple[slice, AppliedControl]], rows: int
) -> None:
    """Add what a ControlNet gave for the rows of `acts`, in their order, to the rows they are in the batch."""
    for name, residual in residuals.items():
        if name not in total:
            total[name] = np.zeros((rows, *residual.shape[1:]), np.float32)
        at = 0
        for where, control in acts:
            count = where.stop - where.start
            total[name][where] += np.float32(control.scale) * residual[at : at + count]
            at += count
