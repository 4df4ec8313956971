"""What the judge says of images that came from the cache: a sample of a trace, and all that those images came from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np
from numpy.typing import NDArray

from benchmarks.cache.replay import STEPS, CacheOutcome, Prompts
from benchmarks.cache.traces import TraceRequest
from benchmarks.subjects.engine import InProcess
from crayon.judge.judge import Marks, read, score
from runtime.arrays import Floats
from runtime.cache.entry import Entry, halved
from runtime.cache.policy import Policy
from runtime.denoising.trajectory import Trajectory

ATTRIBUTES = tuple(field.name for field in fields(Marks))
_AT_ONCE = 8


@dataclass(frozen=True)
class Quality:
    """Of a policy on one trace, as shares: cached and uncached images of the same prompts and seeds.

    `ratio` is that of images with all four attributes right; `margin` is half of its 95 % confidence interval.
    """

    cached: dict[str, float]
    uncached: dict[str, float]
    ratio: float
    margin: float


class Studio:
    """Draws requests of one trace as the runtime would; what is drawn without a cache is drawn once."""

    def __init__(self, engine: InProcess, prompts: Prompts, requests: Sequence[TraceRequest]) -> None:
        self._engine = engine
        self._prompts = prompts
        self._requests = requests
        self._uncached: dict[int, Marks] = {}

    def quality(self, policy: Policy, outcomes: Sequence[CacheOutcome], sample: Sequence[int]) -> Quality:
        """Judge the requests of this sample; those that did not hit are what they are without a cache."""
        without = [CacheOutcome()] * len(self._requests)
        self._uncached |= self._judged([n for n in sample if n not in self._uncached], policy, without)
        marks = self._uncached | self._judged([n for n in sample if outcomes[n].step], policy, outcomes)
        return compared([marks[n] for n in sample], [self._uncached[n] for n in sample])

    def variety(self, policy: Policy, sample: Sequence[int]) -> float:
        """How far another seed's image of the same prompt is from an image that it starts from, over how far it is
        without the cache: mean absolute difference of pixel values.
        """
        cached, uncached = [], []
        for number in sample:
            request = self._requests[number]
            seeds = [2 * number, 2 * number + 1]
            first, alone = self._engine.generate([request.prompt] * 2, seeds).astype(np.float32)
            donor = self._engine.trajectory(request.prompt, seeds[0], STEPS)
            self._engine.finish([donor])
            trajectory = self._engine.trajectory(request.prompt, seeds[1], STEPS)
            entry = self._entry(number, donor, policy)
            policy.enter(trajectory, entry, entry.vector, policy.deepest(0.0, trajectory.table))
            cached.append(np.abs(self._engine.finish([trajectory])[0] - first).mean())
            uncached.append(np.abs(alone - first).mean())
        return float(np.mean(cached) / np.mean(uncached))

    def _judged(self, numbers: Sequence[int], policy: Policy, outcomes: Sequence[CacheOutcome]) -> dict[int, Marks]:
        """Draw these requests and, before them, those whose latents they began from, and so on."""
        wanted, kept, marks = set(numbers), dict[tuple[int, int], Entry](), dict[int, Marks]()
        for wave in _waves(numbers, outcomes):
            trajectories = {number: self._begun(number, policy, outcomes[number], kept) for number in wave}
            while live := {n: trajectory for n, trajectory in trajectories.items() if trajectory.steps_left}:
                self._engine.step(list(live.values()))
                for number, trajectory in live.items():
                    if trajectory.step in policy.keeps(trajectory.table):
                        kept[number, trajectory.step] = self._entry(number, trajectory, policy)
            judged = [number for number in wave if number in wanted]
            if judged:
                images = np.stack([self._engine.runner.decode(trajectories[number].latents) for number in judged])
                scenes = [self._requests[number].scene for number in judged]
                marks |= dict(zip(judged, score(scenes, read(images)), strict=True))
        return marks

    def _begun(
        self, number: int, policy: Policy, outcome: CacheOutcome, kept: dict[tuple[int, int], Entry]
    ) -> Trajectory:
        request = self._requests[number]
        trajectory = self._engine.trajectory(request.prompt, request.seed, STEPS)
        if outcome.step:
            donor = kept[outcome.donor, outcome.kept]
            policy.enter(trajectory, donor, policy.vector(*self._prompts(request.prompt)), outcome.step)
        return trajectory

    def _entry(self, number: int, trajectory: Trajectory, policy: Policy) -> Entry:
        """As the cache keeps it: in half precision."""
        latents = halved(trajectory.latents)
        if latents is None:
            raise ValueError("latents are not finite")
        vector: Floats = policy.vector(*self._prompts(self._requests[number].prompt))
        return Entry("", str(number), trajectory.step, STEPS, vector, latents)


def compared(cached: Sequence[Marks], uncached: Sequence[Marks]) -> Quality:
    """Of images in pairs."""
    mine, theirs = _shares(cached), _shares(uncached)
    base = float(theirs[:, -1].mean())
    apart = (mine[:, -1] - theirs[:, -1]) / base
    names = (*ATTRIBUTES, "all")
    return Quality(
        dict(zip(names, mine.mean(0).tolist(), strict=True)),
        dict(zip(names, theirs.mean(0).tolist(), strict=True)),
        1 + float(apart.mean()),
        1.96 * float(apart.std()) / len(apart) ** 0.5,
    )


def _shares(marks: Sequence[Marks]) -> NDArray[np.float64]:
    return np.array([[*asdict(one).values(), one.all] for one in marks], np.float64)


def _waves(numbers: Sequence[int], outcomes: Sequence[CacheOutcome]) -> Iterator[list[int]]:
    """Requests some at a time, each after the one it began from; those are among them too."""
    generation: dict[int, int] = {}

    def place(number: int) -> int:
        chain = [number]
        while outcomes[chain[-1]].step and chain[-1] not in generation:
            chain.append(outcomes[chain[-1]].donor)
        for one in reversed(chain):
            if one not in generation:
                generation[one] = generation[outcomes[one].donor] + 1 if outcomes[one].step else 0
        return generation[number]

    for number in numbers:
        place(number)
    for level in sorted(set(generation.values())):
        wave = sorted(number for number, at in generation.items() if at == level)
        for start in range(0, len(wave), _AT_ONCE):
            yield wave[start : start + _AT_ONCE]
