"""Draws a scene: 128x128 RGB, deterministic from the scene and a random generator."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from crayon.scenes.grammar import Background, Colour, PairScene, Position, Relation, Scene, Shape, SingleScene, Size

IMAGE_SIZE = 128
_SUPERSAMPLING = 3
_CANVAS = IMAGE_SIZE * _SUPERSAMPLING

Rgb = tuple[int, int, int]
Point = tuple[float, float]

COLOUR_RGB: dict[Colour, Rgb] = {
    Colour.RED: (220, 40, 40),
    Colour.GREEN: (40, 170, 70),
    Colour.BLUE: (50, 90, 220),
    Colour.YELLOW: (245, 205, 40),
    Colour.PURPLE: (140, 60, 190),
    Colour.ORANGE: (245, 140, 30),
    Colour.PINK: (245, 130, 180),
    Colour.WHITE: (245, 245, 245),
    Colour.BLACK: (25, 25, 25),
    Colour.TEAL: (30, 160, 160),
}
BACKGROUND_RGB: dict[Background, Rgb] = {
    Background.RED: (250, 190, 185),
    Background.GREEN: (190, 235, 190),
    Background.BLUE: (180, 210, 250),
    Background.YELLOW: (253, 240, 180),
    Background.GRAY: (200, 200, 205),
    Background.NIGHT: (20, 24, 60),
}
# Centres and radii are fractions of the picture's side.
_NEAR, _FAR = 0.27, 0.73
POSITION_CENTRE: dict[Position, Point] = {
    Position.CENTRE: (0.5, 0.5),
    Position.LEFT: (_NEAR, 0.5),
    Position.RIGHT: (_FAR, 0.5),
    Position.TOP: (0.5, _NEAR),
    Position.BOTTOM: (0.5, _FAR),
}
# The objects of a pair stand a little further apart.
_FIRST, _SECOND = 0.25, 0.75
RELATION_CENTRES: dict[Relation, tuple[Point, Point]] = {
    Relation.LEFT_OF: ((_FIRST, 0.5), (_SECOND, 0.5)),
    Relation.RIGHT_OF: ((_SECOND, 0.5), (_FIRST, 0.5)),
    Relation.ABOVE: ((0.5, _FIRST), (0.5, _SECOND)),
    Relation.BELOW: ((0.5, _SECOND), (0.5, _FIRST)),
}
SIZE_RADIUS: dict[Size, float] = {Size.SMALL: 0.16, Size.LARGE: 0.30}
PAIR_RADIUS = 0.175

_TRUNK: Rgb = (110, 70, 40)
_STEM: Rgb = (205, 175, 130)
_MAST: Rgb = (90, 60, 40)
_SAIL: Rgb = (250, 250, 250)
_SPOT: Rgb = (255, 255, 255)
_POLLEN: Rgb = (250, 220, 90)
STARLIGHT: Rgb = (240, 240, 220)


class _Pen:
    """Draws in an object's own coordinates: its centre is the origin, its radius the unit, y points down."""

    def __init__(self, canvas: ImageDraw.ImageDraw, centre: Point, radius: float, colour: Rgb) -> None:
        self._canvas = canvas
        self._centre = centre
        self._radius = radius
        self.colour = colour
        self.shade: Rgb = (int(colour[0] * 0.68), int(colour[1] * 0.68), int(colour[2] * 0.68))

    def _place(self, x: float, y: float) -> Point:
        return self._centre[0] + x * self._radius, self._centre[1] + y * self._radius

    def polygon(self, points: list[Point], fill: Rgb | None = None) -> None:
        self._canvas.polygon([self._place(x, y) for x, y in points], fill=fill or self.colour)

    def rectangle(self, left: float, top: float, right: float, bottom: float, fill: Rgb | None = None) -> None:
        self._canvas.rectangle([self._place(left, top), self._place(right, bottom)], fill=fill or self.colour)

    def ellipse(self, x: float, y: float, across: float, down: float, fill: Rgb | None = None) -> None:
        box = [self._place(x - across, y - down), self._place(x + across, y + down)]
        self._canvas.ellipse(box, fill=fill or self.colour)

    def dome(self, left: float, top: float, right: float, bottom: float) -> None:
        self._canvas.pieslice([self._place(left, top), self._place(right, bottom)], 180, 360, fill=self.colour)


def _circle(pen: _Pen) -> None:
    pen.ellipse(0, 0, 1, 1)


def _square(pen: _Pen) -> None:
    pen.rectangle(-0.9, -0.9, 0.9, 0.9)


def _triangle(pen: _Pen) -> None:
    pen.polygon([(0, -1), (0.98, 0.8), (-0.98, 0.8)])


def _diamond(pen: _Pen) -> None:
    pen.polygon([(0, -1.1), (0.75, 0), (0, 1.1), (-0.75, 0)])


def _star(pen: _Pen) -> None:
    spokes = [(1.1 if i % 2 == 0 else 0.45, i * math.pi / 5) for i in range(10)]
    pen.polygon([(reach * math.sin(angle), -reach * math.cos(angle)) for reach, angle in spokes])


def _heart(pen: _Pen) -> None:
    outline: list[Point] = []
    for i in range(60):
        t = i / 60 * 2 * math.pi
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        outline.append((1.05 * math.sin(t) ** 3, -1.05 * y / 16))
    pen.polygon(outline)


def _tree(pen: _Pen) -> None:
    pen.rectangle(-0.15, 0.3, 0.15, 1.05, _TRUNK)
    pen.polygon([(0, -1.1), (0.7, -0.2), (-0.7, -0.2)])
    pen.polygon([(0, -0.6), (0.9, 0.5), (-0.9, 0.5)])


def _house(pen: _Pen) -> None:
    pen.rectangle(-0.75, -0.1, 0.75, 0.9)
    pen.polygon([(0, -1), (1, -0.1), (-1, -0.1)], pen.shade)
    pen.rectangle(-0.18, 0.35, 0.18, 0.9, pen.shade)


def _fish(pen: _Pen) -> None:
    pen.ellipse(-0.2, 0, 0.8, 0.55)
    pen.polygon([(0.4, 0), (1.1, -0.55), (1.1, 0.55)])
    pen.ellipse(-0.6, -0.12, 0.1, 0.1, _SPOT)


def _boat(pen: _Pen) -> None:
    pen.polygon([(-1, 0.35), (1, 0.35), (0.6, 0.9), (-0.6, 0.9)])
    pen.rectangle(-0.06, -1, 0.06, 0.35, _MAST)
    pen.polygon([(0.06, -0.95), (0.8, 0.2), (0.06, 0.2)], _SAIL)


def _flower(pen: _Pen) -> None:
    for petal in range(6):
        angle = petal * math.pi / 3
        pen.ellipse(0.6 * math.cos(angle), 0.6 * math.sin(angle), 0.4, 0.4)
    pen.ellipse(0, 0, 0.32, 0.32, _POLLEN)


def _mushroom(pen: _Pen) -> None:
    pen.rectangle(-0.28, -0.1, 0.28, 0.95, _STEM)
    pen.dome(-1, -0.95, 1, 0.95)
    for x, y in ((-0.45, -0.35), (0.1, -0.6), (0.5, -0.3)):
        pen.ellipse(x, y, 0.12, 0.12, _SPOT)


_DRAW: dict[Shape, Callable[[_Pen], None]] = {
    Shape.CIRCLE: _circle,
    Shape.SQUARE: _square,
    Shape.TRIANGLE: _triangle,
    Shape.STAR: _star,
    Shape.HEART: _heart,
    Shape.DIAMOND: _diamond,
    Shape.TREE: _tree,
    Shape.HOUSE: _house,
    Shape.FISH: _fish,
    Shape.BOAT: _boat,
    Shape.FLOWER: _flower,
    Shape.MUSHROOM: _mushroom,
}


def centres(scene: Scene) -> tuple[Point, ...]:
    """Where each object stands before jitter, as fractions of the side: (x, y), x to the right, y down."""
    if isinstance(scene, SingleScene):
        return (POSITION_CENTRE[scene.position],)
    return RELATION_CENTRES[scene.relation]


def _around(rng: random.Random, spread: float) -> float:
    return (rng.random() - 0.5) * spread


def scatter(rng: random.Random) -> list[Point]:
    """Where the nine stars of a night stand."""
    return [(rng.random(), rng.random()) for _ in range(9)]


def jittered_colour(rgb: Rgb, rng: random.Random) -> Rgb:
    """A colour close to `rgb`."""
    red, green, blue = (max(0, min(255, int(value + _around(rng, 16)))) for value in rgb)
    return red, green, blue


@dataclass(frozen=True, slots=True)
class PlacedObject:
    """One object as it is painted; `centre` and `reach`, half its side, are fractions of the picture's side."""

    shape: Shape
    rgb: Rgb
    centre: Point
    reach: float


def paint(
    background: Rgb, objects: Sequence[PlacedObject], dots: Sequence[Point] = (), dot_rgb: Rgb = STARLIGHT
) -> NDArray[np.uint8]:
    """The objects on a background with small dots, as uint8 (128, 128, 3)."""
    image = Image.new("RGB", (_CANVAS, _CANVAS), background)
    canvas = ImageDraw.Draw(image)
    sky = _Pen(canvas, (0.0, 0.0), float(_CANVAS), dot_rgb)
    for x, y in dots:
        sky.ellipse(x, y, 1.5 / IMAGE_SIZE, 1.5 / IMAGE_SIZE)
    for one in objects:
        centre = (one.centre[0] * _CANVAS, one.centre[1] * _CANVAS)
        _DRAW[one.shape](_Pen(canvas, centre, one.reach * _CANVAS, one.rgb))
    return np.asarray(image.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BOX))


def draw(scene: Scene, rng: random.Random) -> NDArray[np.uint8]:
    """The scene as uint8 (128, 128, 3); place, size and shade vary a little with `rng`."""
    dots = scatter(rng) if scene.background is Background.NIGHT else []
    pair = isinstance(scene, PairScene)
    # The two objects of a pair move less, so that they never touch.
    place_spread, size_spread = (0.03, 0.12) if pair else (0.05, 0.15)
    radius = PAIR_RADIUS if isinstance(scene, PairScene) else SIZE_RADIUS[scene.size]
    objects: list[PlacedObject] = []
    for subject, (x, y) in zip(scene.subjects, centres(scene), strict=True):
        centre = (x + _around(rng, place_spread), y + _around(rng, place_spread))
        reach = radius * (1 + _around(rng, size_spread))
        objects.append(PlacedObject(subject.shape, jittered_colour(COLOUR_RGB[subject.colour], rng), centre, reach))
    return paint(BACKGROUND_RGB[scene.background], objects, dots)
