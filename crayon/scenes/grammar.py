"""The scene grammar: what crayon's world can contain, and which part of it training never sees."""

import random
import zlib
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar


class Shape(StrEnum):
    """What is drawn."""

    CIRCLE = "circle"
    SQUARE = "square"
    TRIANGLE = "triangle"
    STAR = "star"
    HEART = "heart"
    DIAMOND = "diamond"
    TREE = "tree"
    HOUSE = "house"
    FISH = "fish"
    BOAT = "boat"
    FLOWER = "flower"
    MUSHROOM = "mushroom"


class Colour(StrEnum):
    """The colour of an object's main surface."""

    RED = "red"
    GREEN = "green"
    BLUE = "blue"
    YELLOW = "yellow"
    PURPLE = "purple"
    ORANGE = "orange"
    PINK = "pink"
    WHITE = "white"
    BLACK = "black"
    TEAL = "teal"


class Background(StrEnum):
    """What fills the rest of the picture; night is dark blue with stars."""

    RED = "red"
    GREEN = "green"
    BLUE = "blue"
    YELLOW = "yellow"
    GRAY = "gray"
    NIGHT = "night"


class Size(StrEnum):
    """Size of the object of a single-object scene; the objects of a pair have one size between the two."""

    SMALL = "small"
    LARGE = "large"


class Position(StrEnum):
    """Where the object of a single-object scene stands."""

    CENTRE = "centre"
    LEFT = "left"
    RIGHT = "right"
    TOP = "top"
    BOTTOM = "bottom"


class Relation(StrEnum):
    """Where the first object of a pair stands, seen from the second."""

    LEFT_OF = "left of"
    RIGHT_OF = "right of"
    ABOVE = "above"
    BELOW = "below"

    @property
    def inverse(self) -> "Relation":
        """The same arrangement, told from the other object."""
        return _INVERSE[self]

    @property
    def places(self) -> tuple[Position, Position]:
        """Where the two objects stand in the picture, the first one first."""
        return _PLACES[self]


_INVERSE = {
    Relation.LEFT_OF: Relation.RIGHT_OF,
    Relation.RIGHT_OF: Relation.LEFT_OF,
    Relation.ABOVE: Relation.BELOW,
    Relation.BELOW: Relation.ABOVE,
}
_PLACES = {
    Relation.LEFT_OF: (Position.LEFT, Position.RIGHT),
    Relation.RIGHT_OF: (Position.RIGHT, Position.LEFT),
    Relation.ABOVE: (Position.TOP, Position.BOTTOM),
    Relation.BELOW: (Position.BOTTOM, Position.TOP),
}


@dataclass(frozen=True, slots=True)
class Subject:
    """One object: a shape in a colour."""

    shape: Shape
    colour: Colour


@dataclass(frozen=True, slots=True)
class SingleScene:
    """One object on a background."""

    subject: Subject
    size: Size
    position: Position
    background: Background

    @property
    def subjects(self) -> tuple[Subject, ...]:
        """The object, as a tuple."""
        return (self.subject,)


@dataclass(frozen=True, slots=True)
class PairScene:
    """Two objects of different shapes, the first standing in `relation` to the second."""

    first: Subject
    relation: Relation
    second: Subject
    background: Background

    @property
    def subjects(self) -> tuple[Subject, ...]:
        """Both objects, in the order in which they are named."""
        return (self.first, self.second)

    @property
    def inverse(self) -> "PairScene":
        """The same picture, told from the other object."""
        return PairScene(self.second, self.relation.inverse, self.first, self.background)

    @property
    def from_left_or_top(self) -> "PairScene":
        """The same picture, told from its left or upper object: equal for a scene and its inverse."""
        return self if self.relation in (Relation.LEFT_OF, Relation.ABOVE) else self.inverse


Scene = SingleScene | PairScene

# One colour for each shape that training never shows it in: whoever draws them has composed, not remembered.
UNSEEN_PAIRS = frozenset(
    {
        Subject(Shape.CIRCLE, Colour.PURPLE),
        Subject(Shape.SQUARE, Colour.ORANGE),
        Subject(Shape.TRIANGLE, Colour.TEAL),
        Subject(Shape.STAR, Colour.PINK),
        Subject(Shape.HEART, Colour.GREEN),
        Subject(Shape.DIAMOND, Colour.BLUE),
        Subject(Shape.TREE, Colour.RED),
        Subject(Shape.HOUSE, Colour.YELLOW),
        Subject(Shape.FISH, Colour.WHITE),
        Subject(Shape.BOAT, Colour.PURPLE),
        Subject(Shape.FLOWER, Colour.BLUE),
        Subject(Shape.MUSHROOM, Colour.ORANGE),
    }
)
HELD_OUT_ONE_IN = 10


class Split(StrEnum):
    """Which part of the world a scene belongs to; every scene belongs to exactly one."""

    TRAIN = "train"
    HELD_OUT = "held-out"
    UNSEEN_PAIR = "unseen-pair"


def split_of(scene: Scene) -> Split:
    """`UNSEEN_PAIR` if an object has a colour kept from it, else `HELD_OUT` for one combination in ten."""
    if any(subject in UNSEEN_PAIRS for subject in scene.subjects):
        return Split.UNSEEN_PAIR
    # A checksum of the content, so that the rule is the same in every process and for every order of drawing.
    ordered = scene.from_left_or_top if isinstance(scene, PairScene) else scene
    return Split.HELD_OUT if zlib.crc32(repr(_words(ordered)).encode()) % HELD_OUT_ONE_IN == 0 else Split.TRAIN


def _words(scene: Scene) -> list[str]:
    subjects = [word for subject in scene.subjects for word in (subject.shape.value, subject.colour.value)]
    if isinstance(scene, PairScene):
        return [*subjects, scene.relation.value, scene.background.value]
    return [*subjects, scene.size.value, scene.position.value, scene.background.value]


def is_visible(scene: Scene) -> bool:
    """False for black objects at night."""
    return scene.background is not Background.NIGHT or all(s.colour is not Colour.BLACK for s in scene.subjects)


_Kind = TypeVar("_Kind", bound=StrEnum)


def _pick(rng: random.Random, kind: type[_Kind]) -> _Kind:
    return rng.choice(list(kind))


def sample_single(rng: random.Random, split: Split) -> SingleScene:
    """A random single-object scene of `split`."""
    while True:
        subject = Subject(_pick(rng, Shape), _pick(rng, Colour))
        scene = SingleScene(subject, _pick(rng, Size), _pick(rng, Position), _pick(rng, Background))
        if is_visible(scene) and split_of(scene) is split:
            return scene


def sample_pair(rng: random.Random, split: Split) -> PairScene:
    """A random two-object scene of `split`; its two shapes differ, their colours need not."""
    while True:
        first, second = rng.sample(list(Shape), 2)
        scene = PairScene(
            Subject(first, _pick(rng, Colour)),
            _pick(rng, Relation),
            Subject(second, _pick(rng, Colour)),
            _pick(rng, Background),
        )
        if is_visible(scene) and split_of(scene) is split:
            return scene


def distinct_scenes(count: int, split: Split, *, pairs: bool, seed: int) -> list[Scene]:
    """`count` different scenes of `split`, single-object or two-object, the same for the same seed."""
    rng = random.Random(seed)
    scenes: dict[Scene, None] = {}
    while len(scenes) < count:
        scenes[sample_pair(rng, split) if pairs else sample_single(rng, split)] = None
    return list(scenes)
