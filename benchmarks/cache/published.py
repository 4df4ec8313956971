"""The published policy (Nirvana, NSDI 2024): latents of five steps a prompt, thresholds on one cosine similarity."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np

from runtime.arrays import Floats, Ids
from runtime.cache.entry import Entry
from runtime.cache.eviction import Eviction, Scored
from runtime.denoising.samplers import SamplerTable
from runtime.denoising.trajectory import Trajectory

# At 50 steps: above this similarity, enter at this step.
STEPS = 50
THRESHOLDS = ((0.95, 25), (0.90, 20), (0.85, 15), (0.75, 10), (0.65, 5))


def lcbfu() -> Scored:
    """The rule that goes with it: the entry with the least hits times its step goes first."""
    return Scored(lambda account: account.hits * account.step)


def lru() -> Scored:
    """The longest unused goes first."""
    return Scored(lambda account: account.used)


class Published:
    """Compares the text encoder's state at the end token, as CLIP pools it, and enters at the stored latents.

    So the image follows the donor's noise and not its own seed's. At other numbers of steps than 50 the steps scale.
    """

    name = "nirvana"
    reusable = False
    renews = 0

    def __init__(
        self, eviction: Callable[[], Eviction], embedding_dim: int, end_token: int, tighten: float = 0.0
    ) -> None:
        """`tighten` moves every threshold that part of the way to 1; published is 0."""
        self.dimensions = embedding_dim
        self.eviction = eviction
        self._end_token = end_token
        self._thresholds = [(1 - (1 - above) * (1 - tighten), step) for above, step in THRESHOLDS]

    def vector(self, prompt_embeds: Floats, ids: Ids) -> Floats:
        end = int(np.argmax(ids[0] == self._end_token))
        return unit(prompt_embeds[0, end])

    def point(self, vector: Floats) -> Floats:
        return vector

    def similarity(self, distance: float) -> float:
        return 1 - distance / 2  # of unit vectors

    def applies(self, width: int, height: int, guidance_scale: float) -> bool:  # noqa: ARG002
        return True

    def deepest(self, distance: float, table: SamplerTable) -> int:
        similarity = self.similarity(distance)
        return next((_scaled(step, table) for above, step in self._thresholds if similarity > above), 0)

    def keeps(self, table: SamplerTable) -> Collection[int]:
        return {_scaled(step, table) for _, step in THRESHOLDS} - {0}

    def usable(self, step: int, deepest: int, table: SamplerTable) -> int:  # noqa: ARG002
        return step if step <= deepest else 0

    def enter(self, trajectory: Trajectory, entry: Entry, vector: Floats, step: int) -> None:  # noqa: ARG002
        denoised = None if entry.denoised is None else entry.denoised.astype(np.float32)
        trajectory.enter(entry.latents.astype(np.float32), step, denoised)

    def admits(self, distance: float | None, *, entered: bool) -> bool:  # noqa: ARG002
        return True


def _scaled(step: int, table: SamplerTable) -> int:
    return step * table.steps // STEPS


def unit(vector: Floats) -> Floats:
    """The vector at length 1; cosine similarity is then 1 - distance / 2."""
    length = float(np.linalg.norm(vector))
    return (vector / np.float32(length)).astype(np.float32) if length else vector
