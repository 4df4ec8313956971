"""Pairs of edge map and prompt that judge the ControlNet: half ask for what the source of the edges did not show."""

import random
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import product

import numpy as np
from numpy.typing import NDArray

from crayon.scenes.captions import canonical_caption
from crayon.scenes.control_scenes import plain_caption, with_colours
from crayon.scenes.drawing import draw
from crayon.scenes.edges import canny
from crayon.scenes.grammar import (
    Background,
    Colour,
    Scene,
    Shape,
    SingleScene,
    Split,
    distinct_scenes,
    is_visible,
    split_of,
)


class PromptChange(StrEnum):
    """What the prompt asks for, compared with the picture that the edge map was taken from."""

    NONE = "as the source"
    COLOUR = "another colour and background"
    OBJECT = "another object"


# Half of the cases ask for what the source shows, and half for something else.
_CHANGES = (PromptChange.NONE, PromptChange.COLOUR, PromptChange.NONE, PromptChange.OBJECT)


@dataclass(frozen=True)
class ControlCase:
    """One pair of edge map and prompt.

    `source` is uint8 (128, 128, 3), `edges` bool (128, 128). `wanted` has the objects and places of the edge map, the
    colours and background of the prompt.
    """

    source: NDArray[np.uint8]
    edges: NDArray[np.bool_]
    prompt: str
    wanted: Scene
    change: PromptChange
    seed: int


@dataclass(frozen=True)
class ControlSuite:
    """Pairs of one kind, made from scenes that training never saw; goals only where they are set."""

    name: str
    pairs: bool
    # Whether the prompt names size and place, as captions do, or leaves them to the edge map.
    place_named: bool
    count: int
    seed: int
    goal_agreement: float | None = None
    goal_ratio: float | None = None
    goal_obeyed: float | None = None

    def cases(self, count: int | None = None) -> list[ControlCase]:
        """The suite's pairs (the first `count` of them), the same every time."""
        scenes = distinct_scenes(self.count, Split.HELD_OUT, pairs=self.pairs, seed=self.seed)
        return [self._case(index, scene) for index, scene in enumerate(scenes[:count])]

    def _case(self, index: int, scene: Scene) -> ControlCase:
        rng = random.Random(f"control:{self.seed}:{index}")
        source = draw(scene, rng)
        change = _CHANGES[index % len(_CHANGES)]
        wanted = _in_other_colours(scene, rng) if change is PromptChange.COLOUR else scene
        named = _with_other_objects(scene, rng) if change is PromptChange.OBJECT else wanted
        prompt = canonical_caption(named) if self.place_named else plain_caption(named)
        return ControlCase(source, canny(source), prompt, wanted, change, self.seed * 10_000 + index)


CONTROL_SUITES = (
    ControlSuite(
        "one object, place left to the edges",
        pairs=False,
        place_named=False,
        count=200,
        seed=601,
        goal_agreement=0.7,
        goal_ratio=2.5,
        goal_obeyed=0.9,
    ),
    ControlSuite("one object, place and size named", pairs=False, place_named=True, count=60, seed=602),
    ControlSuite("two objects", pairs=True, place_named=True, count=60, seed=603),
)


def _in_other_colours(scene: Scene, rng: random.Random) -> Scene:
    """Every object in another colour, on another background, as training never showed it."""
    colours = ([colour for colour in Colour if colour is not subject.colour] for subject in scene.subjects)
    backgrounds = [background for background in Background if background is not scene.background]
    others = [with_colours(scene, *both) for both in product(product(*colours), backgrounds)]
    return rng.choice([other for other in others if is_visible(other) and split_of(other) is not Split.TRAIN])


def _with_other_objects(scene: Scene, rng: random.Random) -> Scene:
    """Other objects in the same colours, on the same background."""
    taken = [subject.shape for subject in scene.subjects]
    shapes = rng.sample([shape for shape in Shape if shape not in taken], len(taken))
    if isinstance(scene, SingleScene):
        return replace(scene, subject=replace(scene.subject, shape=shapes[0]))
    first, second = (replace(subject, shape=shape) for subject, shape in zip(scene.subjects, shapes, strict=True))
    return replace(scene, first=first, second=second)
