"""The simulated pool: replicas that work in batched steps on one shared queue, as the runtime does."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ServiceTimes:
    """How long things take on one replica; seconds.

    A step of a batch of `n` images takes `step + image_step * n`; each image also takes `overhead` (encode, decode,
    upload) of its replica's time once. A new replica is ready after `start`.
    """

    steps: int = 20
    step: float = 0.08
    image_step: float = 0.12
    overhead: float = 0.4
    batch: int = 8
    start: float = 60.0
    memory_percent: float = 40.0

    def step_seconds(self, images: int, joining: int) -> float:
        return self.step + self.image_step * images + self.overhead * joining


@dataclass(eq=False)
class SimulatedReplica:
    """One replica; times are simulated seconds. `batch` holds [steps left, arrival] of each image in work."""

    ordered: float
    ready: float
    draining: bool = False
    stepping: bool = False
    batch: list[list[float]] = field(default_factory=list)
    busy_until: float = 0.0
    busy: float = 0.0  # seconds of work begun since the last observation


@dataclass
class SimulatedPool:
    """Replicas and the queue they all take from. The simulation tells it what happens when."""

    service: ServiceTimes
    queue: deque[float] = field(default_factory=deque)
    replicas: list[SimulatedReplica] = field(default_factory=list)
    replica_seconds: float = 0.0
    starts: int = 0

    @property
    def wanted(self) -> list[SimulatedReplica]:
        """The replicas that are to stay."""
        return [replica for replica in self.replicas if not replica.draining]

    def ready_at(self, now: float) -> list[SimulatedReplica]:
        return [replica for replica in self.replicas if replica.ready <= now and not replica.draining]

    @property
    def unfinished(self) -> int:
        return len(self.queue) + sum(len(replica.batch) for replica in self.replicas)

    def resize(self, number: int, now: float, *, warm: bool = False) -> list[SimulatedReplica]:
        """Order or drain replicas so that `number` are to stay; returns those ordered. `warm`: ready at once."""
        stay = self.wanted
        for replica in self.replicas:  # one that still drains is the cheapest to have back
            if replica.draining and len(stay) < number:
                replica.draining = False
                stay.append(replica)
        ordered: list[SimulatedReplica] = []
        while len(stay) + len(ordered) < number:
            replica = SimulatedReplica(now, now if warm else now + self.service.start)
            ordered.append(replica)
            self.starts += not warm
        self.replicas += ordered
        # What is not ready goes first, then what has least in work, then the youngest.
        going = sorted(stay, key=lambda one: (one.ready <= now, len(one.batch), -one.ordered))
        for replica in going[: max(len(stay) - number, 0)]:
            replica.draining = True
            if not replica.stepping:
                self._end(replica, now)
        return ordered

    def step(self, replica: SimulatedReplica, now: float) -> tuple[list[float], float | None]:
        """One step boundary: the arrivals of images that are finished, and when the next boundary is, if any."""
        finished = []
        if replica.stepping:
            for image in replica.batch:
                image[0] -= 1
            finished = [image[1] for image in replica.batch if image[0] <= 0]
            replica.batch = [image for image in replica.batch if image[0] > 0]
        joining = 0
        while self.queue and not replica.draining and len(replica.batch) < self.service.batch:
            replica.batch.append([float(self.service.steps), self.queue.popleft()])
            joining += 1
        replica.stepping = bool(replica.batch)
        if not replica.batch:
            if replica.draining:
                self._end(replica, now)
            return finished, None
        seconds = self.service.step_seconds(len(replica.batch), joining)
        replica.busy += seconds
        replica.busy_until = now + seconds
        return finished, now + seconds

    def utilisation(self, now: float, since: float) -> float:
        """Percent of the time since `since` that the ready replicas worked, on average; starts counting anew."""
        ready = self.ready_at(now)
        worked = 0.0
        for replica in self.replicas:
            beyond = max(replica.busy_until - now, 0.0) if replica.stepping else 0.0
            if replica in ready:
                worked += min(max(replica.busy - beyond, 0.0) / max(now - max(since, replica.ready), 1e-9), 1.0)
            replica.busy = beyond
        return 100.0 * worked / len(ready) if ready else 0.0

    def _end(self, replica: SimulatedReplica, now: float) -> None:
        self.replicas.remove(replica)
        self.replica_seconds += now - replica.ordered

    def close(self, now: float) -> None:
        """Count what still runs."""
        for replica in list(self.replicas):
            self._end(replica, now)
