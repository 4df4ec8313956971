"""A trace through the runtime's own cache, without the engine: which request starts where, and from whose latents."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from benchmarks.cache.traces import TraceRequest
from benchmarks.subjects.engine import InProcess
from darkroom.storage import ObjectStore
from runtime.arrays import Floats, Ids
from runtime.cache.latent_cache import LatentCache
from runtime.cache.policy import Policy
from runtime.cache.repeats import Repeats
from runtime.cache.shared import SharedLog
from runtime.cache.sharing import Sharing
from runtime.denoising.trajectory import Trajectory
from runtime.metrics import Metrics

STEPS = 25
_STORE_BYTES = 1 << 30
_NO_LATENTS = np.zeros((4, 16, 16), np.float32)


@dataclass(frozen=True)
class CacheOutcome:
    """One request entered at `step` (0: none) from what request `donor` had at `kept`.

    `look_up` is the seconds before its first step, `overhead` all that the cache cost it.
    """

    step: int = 0
    donor: int = 0
    kept: int = 0
    look_up: float = 0.0
    overhead: float = 0.0


class Prompts:
    """Embeddings of the real text encoder, each prompt's computed once."""

    def __init__(self, engine: InProcess) -> None:
        self._engine = engine
        self._known: dict[str, tuple[Floats, Ids]] = {}

    def __call__(self, prompt: str) -> tuple[Floats, Ids]:
        """float32 [1, L, D] and token ids int64 [1, L]."""
        if prompt not in self._known:
            ids = self._engine.loaded.tokenizer.encode(prompt).ids
            self._known[prompt] = self._engine.engine.encode(ids)["prompt_embeds"], ids
        return self._known[prompt]


class Replay:
    """Sends requests one after another: each is finished before the next one comes.

    No image is drawn, because no decision of the cache depends on what is in the latents.
    """

    def __init__(self, engine: InProcess, prompts: Prompts) -> None:
        self._table = engine.loaded.samplers.table("ddim", STEPS)
        self._prompts = prompts

    def run(self, requests: Sequence[TraceRequest], policy: Policy, budget: int) -> list[CacheOutcome]:
        """`budget` in bytes of memory; the cache starts empty and has no other tier."""
        with closing(LatentCache(policy, budget, Metrics())) as cache:
            return [self._one(cache, number, request) for number, request in enumerate(requests)]

    def shared(
        self, requests: Sequence[TraceRequest], policies: Sequence[Policy], budget: int, store: ObjectStore, every: int
    ) -> list[CacheOutcome]:
        """One replica a policy, each with the whole budget, which take turns; all exchange with the store once in
        `every` requests.
        """
        caches = [LatentCache(policy, budget, Metrics()) for policy in policies]
        clock = itertools.count()
        shares = []
        for name, cache in enumerate(caches):
            log = SharedLog(store, "crayon", "bench", str(name), _STORE_BYTES)
            shares.append(Sharing(cache, Repeats(1), log, seconds=1, clock=lambda: float(next(clock))))
            cache.on_new = shares[-1].new_entry
        outcomes = []
        for number, request in enumerate(requests):
            if number % every == 0:
                for share in shares:
                    share.exchange()
            outcomes.append(self._one(caches[number % len(caches)], number, request))
        for cache in caches:
            cache.close()
        return outcomes

    def _one(self, cache: LatentCache, number: int, request: TraceRequest) -> CacheOutcome:
        embeds, ids = self._prompts(request.prompt)
        shape, seed = _NO_LATENTS.shape, request.seed
        trajectory = Trajectory(request=number, index=0, seed=seed, shape=shape, table=self._table, guidance_scale=4.0)
        trajectory.begin({})
        started = time.perf_counter()
        visit = cache.visit("one tenant's", embeds, ids, [trajectory])
        look_up = time.perf_counter() - started
        step, donor, kept = trajectory.step, "0", "0"
        if step and visit.match:
            donor, _, kept = visit.match.entry.partition("-")
        while trajectory.steps_left:
            trajectory.advance(_NO_LATENTS, _NO_LATENTS)
            cache.passed(visit, trajectory)
        cache.finished(visit, trajectory, str(number))
        return CacheOutcome(step, int(donor), int(kept), look_up, time.perf_counter() - started)


def saved(outcomes: Sequence[CacheOutcome]) -> float:
    """The share of all UNet rows that were not run."""
    return float(np.mean([outcome.step for outcome in outcomes])) / STEPS
