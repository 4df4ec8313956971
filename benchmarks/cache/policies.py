"""The policies compared: the published one and plain LRU, ours, and ours with one of its parts taken out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from benchmarks.cache.published import Published, lcbfu, lru
from benchmarks.subjects.engine import InProcess
from runtime.arrays import Floats
from runtime.cache.calibrated import Calibrated, Calibration
from runtime.cache.entry import Entry
from runtime.cache.eviction import Eviction, saved_work
from runtime.cache.policy import Policy
from runtime.denoising.trajectory import Trajectory

QUALITY = 0.99


class StoresAll(Calibrated):
    """Without the admission that leaves out what adds nothing, and what began from another image."""

    def admits(self, distance: float | None, *, entered: bool) -> bool:  # noqa: ARG002
        return True


class Unrenewed(Calibrated):
    """Never beginning from noise while there is something to begin from."""

    renews = 0


class Unmoved(Calibrated):
    """Without moving the donor's image to where this prompt's would be."""

    def enter(self, trajectory: Trajectory, entry: Entry, vector: Floats, step: int) -> None:  # noqa: ARG002
        super().enter(trajectory, entry, entry.vector, step)


class Policies:
    """Makes policies of one bundle; each replay needs its own, because evictions keep accounts."""

    def __init__(self, engine: InProcess) -> None:
        """Raises ValueError for a bundle without a calibration."""
        self._manifest = engine.manifest
        spec, prompts = engine.manifest.cache, engine.loaded.prompt_map
        if spec is None or prompts is None:
            raise ValueError("this bundle is not calibrated; run calibrate-cache and build it with --cache")
        self._spec, self._prompts = spec, prompts

    def published(self, eviction: Callable[[], Eviction] = lcbfu, tighten: float = 0.0) -> Policy:
        text = self._manifest.text
        return Published(eviction, text.embedding_dim, text.eos_token_id, tighten)

    def ours(
        self,
        quality: float = QUALITY,
        kind: type[Calibrated] = Calibrated,
        eviction: Callable[[], Eviction] = saved_work,
    ) -> Policy:
        return kind(Calibration(self._prompts, self._spec, quality, 0.8), eviction)

    def compared(self) -> dict[str, Callable[[], Policy]]:
        """By the names of the table."""
        return {"nirvana": self.published, "lru": partial(self.published, lru), "darkroom": self.ours}

    def without(self) -> dict[str, Callable[[], Policy]]:
        """Ours, one part taken out each."""
        return {
            "evicting as published (LCBFU)": partial(self.ours, eviction=lcbfu),
            "evicting the longest unused": partial(self.ours, eviction=lru),
            "storing all": partial(self.ours, kind=StoresAll),
            "never renewing": partial(self.ours, kind=Unrenewed),
        }

    def curves(self) -> dict[str, list[Callable[[], Policy]]]:
        """Each policy from careful to greedy."""
        tightened = (0.0, 0.8, 0.95, 0.99)
        return {
            "nirvana": [partial(self.published, lcbfu, part) for part in tightened],
            "lru": [partial(self.published, lru, part) for part in tightened[::2]],
            "darkroom": [partial(self.ours, quality) for quality in (0.9, 0.97, 0.99, 0.995)],
        }
