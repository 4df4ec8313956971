"""What a caching policy decides: how prompts are compared, what is remembered, and where a similar prompt enters."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from runtime.arrays import Floats, Ids
from runtime.cache.entry import Entry
from runtime.cache.eviction import Eviction
from runtime.denoising.samplers import SamplerTable
from runtime.denoising.trajectory import Trajectory


class Policy(Protocol):
    """Decides and computes; holds no entries."""

    name: str
    dimensions: int
    reusable: bool
    """Whether one entry may start several images of a request: only where each keeps its own noise."""
    renews: int
    """After so many look-ups in a row that found something the next image begins from noise; 0: there is no need."""

    def vector(self, prompt_embeds: Floats, ids: Ids) -> Floats:
        """float32 [1, L, D] and int64 [1, L] -> what is kept of a prompt, float32."""

    def point(self, vector: Floats) -> Floats:
        """Where a vector stands in the index, float32 [dimensions]."""

    def similarity(self, distance: float) -> float:
        """Of two prompts by the squared distance of their points; 1: the same."""

    def applies(self, width: int, height: int, guidance_scale: float) -> bool:
        """Whether its decisions hold for images of this kind."""

    def deepest(self, distance: float, table: SamplerTable) -> int:
        """The last step that a prompt so far away may enter at; 0: none."""

    def keeps(self, table: SamplerTable) -> Collection[int]:
        """The steps whose latents are remembered; the table's number of steps stands for the finished image."""

    def usable(self, step: int, deepest: int, table: SamplerTable) -> int:
        """Where latents kept at `step` may be entered, by who may go as far as `deepest`; 0: nowhere."""

    def enter(self, trajectory: Trajectory, entry: Entry, vector: Floats, step: int) -> None:
        """Let a trajectory that has begun go on at `step` from the entry; `vector` is its own prompt's."""

    def admits(self, distance: float | None, *, entered: bool) -> bool:
        """Whether to remember an image whose nearest prompt was so far away (None: there was none, or none was looked
        for); `entered` says that it began from another one.
        """

    def eviction(self) -> Eviction: ...
