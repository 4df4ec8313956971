"""Three traces of requests from crayon's grammar: editing sessions, popular prompts, and no pattern at all."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, islice

from crayon.scenes.captions import canonical_caption
from crayon.scenes.edits import edited, paraphrase
from crayon.scenes.grammar import Scene, Split, sample_pair, sample_single

REQUESTS = 5000
_AT_ONCE = 24  # sessions that are open at the same time
_LEAVES = 0.12  # of requests are a session's last
_AGAIN = 0.2  # of a session's requests ask for the same prompt with another seed
_POPULAR = 800  # scenes, whose popularity falls with their rank


@dataclass(frozen=True)
class TraceRequest:
    """One request: what is to be seen, the words for it, and its seed."""

    scene: Scene
    prompt: str
    seed: int


def _scene(rng: random.Random) -> Scene:
    pick = sample_pair if rng.random() < 0.4 else sample_single
    return pick(rng, Split.TRAIN)


def _worded(scene: Scene, rng: random.Random) -> str:
    return canonical_caption(scene) if rng.random() < 0.5 else paraphrase(scene, rng)


def sessions(rng: random.Random) -> Iterator[tuple[Scene, str]]:
    """Users who change one thing at a time, in the same words otherwise; they come and go and take turns."""
    open_ = [_scene(rng) for _ in range(_AT_ONCE)]
    while True:
        at = rng.randrange(_AT_ONCE)
        yield open_[at], canonical_caption(open_[at])
        if rng.random() < _LEAVES:
            open_[at] = _scene(rng)
        elif rng.random() >= _AGAIN:
            open_[at] = edited(open_[at], rng)


def popular(rng: random.Random) -> Iterator[tuple[Scene, str]]:
    """Scenes asked for as often as 1 / rank, each time in other words half of the time."""
    scenes = [_scene(rng) for _ in range(_POPULAR)]
    weights = list(accumulate(1 / rank for rank in range(1, _POPULAR + 1)))
    while True:
        (scene,) = rng.choices(scenes, cum_weights=weights)
        yield scene, _worded(scene, rng)


def uniform(rng: random.Random) -> Iterator[tuple[Scene, str]]:
    """A scene drawn at random, every time."""
    while True:
        scene = _scene(rng)
        yield scene, _worded(scene, rng)


_KINDS = {"sessions": sessions, "zipf": popular, "uniform": uniform}
TRACES = tuple(_KINDS)


def trace(kind: str, requests: int = REQUESTS) -> list[TraceRequest]:
    """The same requests every time; each has a seed of its own."""
    rng = random.Random(f"{kind} of crayon")
    return [TraceRequest(*drawn, seed) for seed, drawn in enumerate(islice(_KINDS[kind](rng), requests))]
