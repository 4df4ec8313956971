"""Similar prompt -> latents at step k: what each request is looked up by, enters from, and leaves for others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from time import perf_counter

from darkroom.contracts import CacheReport
from runtime.arrays import Floats, Ids
from runtime.cache.disk import LatentDisk
from runtime.cache.entry import Damaged, Entry, Halves, halved
from runtime.cache.memory import LatentMemory, Slot
from runtime.cache.policy import Policy
from runtime.denoising.samplers import SamplerTable
from runtime.denoising.trajectory import Trajectory
from runtime.metrics import Metrics

_MOST_WRITING = 256  # a disk slower than the engine gets no more than it can take


@dataclass(frozen=True)
class Match:
    """An entry that a prompt may start from, at `step`, by its similarity."""

    entry: str
    slot: Slot
    step: int
    similarity: float


@dataclass
class Visit:
    """One request's dealings with the cache, on the engine's thread."""

    scope: str
    vector: Floats
    kept: dict[Trajectory, dict[int, tuple[Halves, Halves | None]]]
    nearest: float | None = None
    match: Match | None = None
    entered: set[Trajectory] = field(default_factory=set)
    coming: dict[Trajectory, tuple[Match, Future[Entry]]] = field(default_factory=dict)
    skipped: int = 0
    similarity: float | None = None

    def report(self) -> CacheReport:
        """What the answer says: steps skipped of all images together."""
        similarity = None if self.similarity is None else round(self.similarity, 4)
        return CacheReport(hit=self.skipped > 0, steps_skipped=self.skipped, similarity=similarity)


class LatentCache:
    """Joins a policy, the memory tier and, where there is one, the disk tier.

    Nothing here waits: what is not in memory is read on another thread, and enters when it is there, if the trajectory
    has not come as far by itself. When that is decides nothing about the image, which depends on entry, step and seed.
    Nothing here raises for what an entry holds: anything wrong with one is a miss.
    """

    def __init__(
        self,
        policy: Policy,
        memory_bytes: int,
        metrics: Metrics,
        disk: LatentDisk | None = None,
        on_new: Callable[[Entry], None] = lambda _: None,
    ) -> None:
        """`on_new` is called with each entry that this replica made."""
        self.policy = policy
        self.memory = LatentMemory(
            memory_bytes,
            policy.dimensions,
            policy.point,
            policy.eviction(),
            metrics.cache_evictions.labels("memory").inc,
        )
        self._metrics = metrics
        self._disk = disk
        self.on_new = on_new
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="cache")
        self._writing = 0
        metrics.cache_bytes.labels("memory").set_function(lambda: self.memory.nbytes)
        if disk is not None:
            disk.gone = self._gone_from_disk
            metrics.cache_bytes.labels("disk").set_function(lambda: disk.nbytes)

    # ---- the engine's thread --------------------------------------------------------------------------------------

    def visit(self, scope: str, prompt_embeds: Floats, ids: Ids, trajectories: Sequence[Trajectory]) -> Visit:
        """Look a prompt up, float32 [1, L, D] with its token ids, and let its trajectories (which have begun) enter."""
        started = perf_counter()
        vector = self.policy.vector(prompt_embeds, ids)
        visit = Visit(scope, vector, {trajectory: {} for trajectory in trajectories})
        if self.policy.renews and self.memory.hits(scope) >= self.policy.renews:
            outcome = "renewed"
        else:
            self._look_up(visit, trajectories[0].table)
            outcome = "hit" if visit.match else "miss"
        self.memory.looked_up(scope, hit=outcome == "hit")
        self._metrics.cache_lookups.labels(outcome).inc()
        if (match := visit.match) is not None:
            for trajectory in trajectories if self.policy.reusable else trajectories[:1]:
                if match.slot.entry is not None:
                    self._enter(visit, trajectory, match, match.slot.entry)
                elif self._disk is not None:
                    visit.coming[trajectory] = match, self._pool.submit(self._disk.read, match.entry)
        self._metrics.cache_lookup_seconds.observe(perf_counter() - started)
        return visit

    def arrive(self, visit: Visit) -> None:
        """At a step boundary: let trajectories enter whose entries have been read meanwhile."""
        for trajectory, (match, reading) in list(visit.coming.items()):
            if not reading.done():
                continue
            del visit.coming[trajectory]
            try:
                entry = reading.result()
            except Damaged:
                self._metrics.cache_damaged.inc()
                self.memory.forget(match.entry)
                continue
            self.memory.add(entry, on_disk=True)
            if trajectory.step < match.step and trajectory.steps_left:  # else it has come as far by itself
                self._enter(visit, trajectory, match, entry)

    def passed(self, visit: Visit, trajectory: Trajectory) -> None:
        """After a step: keep its latents until it is known that the image is good."""
        kept, table = visit.kept.get(trajectory), trajectory.table
        if kept is None or trajectory.step not in self.policy.keeps(table):
            return
        looks_back = trajectory.step < table.steps and table.looks_back(trajectory.step)
        latents, denoised = halved(trajectory.latents), halved(trajectory.denoised) if looks_back else None
        if latents is not None and (denoised is not None or not looks_back):
            kept[trajectory.step] = latents, denoised

    def finished(self, visit: Visit, trajectory: Trajectory, origin: str) -> None:
        """Its image is good: remember what was kept, under a name that no other trajectory has."""
        kept = visit.kept.pop(trajectory, {})
        if not self.policy.admits(visit.nearest, entered=trajectory in visit.entered):
            self._metrics.cache_not_admitted.inc()
            return
        for step, (latents, denoised) in kept.items():
            entry = Entry(visit.scope, origin, step, trajectory.table.steps, visit.vector, latents, denoised)
            self.memory.add(entry)
            self.on_new(entry)
            self._write(entry)

    def _look_up(self, visit: Visit, table: SamplerTable) -> None:
        """Fill in what is near."""
        policy = self.policy
        for near in self.memory.nearest(visit.scope, policy.point(visit.vector), 1):  # none enters deeper than by it
            visit.nearest = near.distance
            deepest = policy.deepest(near.distance, table)
            step, kept = max(((policy.usable(kept, deepest, table), kept) for kept in near.steps), default=(0, 0))
            slot = self.memory.get(near.name, kept) if step else None
            if slot is not None:
                visit.match = Match(f"{near.name}-{kept}", slot, step, policy.similarity(near.distance))

    def _enter(self, visit: Visit, trajectory: Trajectory, match: Match, entry: Entry) -> None:
        before = trajectory.step
        if entry.scope != visit.scope or entry.latents.shape != trajectory.shape:
            self._metrics.cache_damaged.inc()
            self.memory.forget(match.entry)
            return
        self.policy.enter(trajectory, entry, visit.vector, match.step)
        saved = trajectory.step - before
        visit.entered.add(trajectory)
        visit.skipped += saved
        visit.similarity = max(match.similarity, -1.0 if visit.similarity is None else visit.similarity)
        self.memory.hit(match.entry, saved)
        self._metrics.cache_hits.labels(str(match.step)).inc()
        self._metrics.cache_steps_saved.inc(saved)

    # ---- other threads --------------------------------------------------------------------------------------------

    def take(self, entry: Entry) -> None:
        """Remember what another replica made; what does not fit this one's policy is left."""
        if entry.vector.shape == (self.policy.dimensions,) and not self.memory.holds(entry.id):
            self.memory.add(entry)

    def warm(self) -> None:
        """Take what earlier runs left on the disk."""
        for entry in self._disk.entries() if self._disk is not None else ():
            if entry.vector.shape == (self.policy.dimensions,):
                self.memory.add(entry, on_disk=True)

    def close(self) -> None:
        """Start nothing more; does not wait."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._disk is not None:
            self._disk.close()

    def settle(self) -> None:
        """Wait until all that was to be written is written."""
        self._pool.submit(lambda: None).result()

    def _gone_from_disk(self, entry: str) -> None:
        self._metrics.cache_evictions.labels("disk").inc()
        self.memory.gone_from_disk(entry)

    def _write(self, entry: Entry) -> None:
        if self._disk is None or self._writing >= _MOST_WRITING:
            return
        disk = self._disk

        def write() -> None:
            self._writing -= 1
            if disk.write(entry):
                self.memory.stored_on_disk(entry.id)
            else:
                self._metrics.cache_failures.labels("disk").inc()

        self._writing += 1
        self._pool.submit(write)
