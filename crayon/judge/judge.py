"""Reads pictures back into what they show, and says which of a prompt's wishes were granted."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import permutations
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import nn

from crayon.judge.segmentation import Blob, backdrop_colour, crop, find_blobs, nearest_background
from crayon.scenes.grammar import Background, Colour, Position, Relation, Scene, Shape, SingleScene, Size

WEIGHTS = Path(__file__).resolve().parent / "judge.safetensors"
# Fractions of the picture's side, halfway between what scenes are drawn with.
_OFF_CENTRE = 0.12
_LARGE = 0.47
_SHAPES, _COLOURS = list(Shape), list(Colour)


class ObjectClassifier(nn.Module):
    """Names the shape and the colour of one cropped object."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width in (32, 64, 128):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
            channels = width
        self.features = nn.Sequential(*layers, nn.Conv2d(128, 128, 3, padding=1), nn.ReLU())
        self.shape = nn.Linear(128 * 16, len(_SHAPES))
        self.colour = nn.Linear(128 * 16, len(_COLOURS))

    def forward(self, crops: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """float (count, 3, 32, 32) in [-1, 1] to logits of shape (count, 12) and of colour (count, 10)."""
        features = self.features(crops).flatten(1)
        return self.shape(features), self.colour(features)


@dataclass(frozen=True, slots=True)
class SeenObject:
    """One object as the judge sees it; `centre` in fractions (x, y) of the picture's sides."""

    shape: Shape
    colour: Colour
    size: Size
    centre: tuple[float, float]

    @property
    def position(self) -> Position:
        """Where it stands, if it is alone."""
        x, y = self.centre[0] - 0.5, self.centre[1] - 0.5
        if max(abs(x), abs(y)) < _OFF_CENTRE:
            return Position.CENTRE
        if abs(x) > abs(y):
            return Position.LEFT if x < 0 else Position.RIGHT
        return Position.TOP if y < 0 else Position.BOTTOM

    def relation_to(self, other: "SeenObject") -> Relation:
        """Where it stands, seen from `other`."""
        x, y = self.centre[0] - other.centre[0], self.centre[1] - other.centre[1]
        if abs(x) > abs(y):
            return Relation.LEFT_OF if x < 0 else Relation.RIGHT_OF
        return Relation.ABOVE if y < 0 else Relation.BELOW


@dataclass(frozen=True, slots=True)
class Reading:
    """Everything the judge sees in one picture; objects from the largest to the smallest."""

    background: Background
    objects: tuple[SeenObject, ...]


@dataclass(frozen=True, slots=True)
class Marks:
    """Which wishes of a prompt a picture grants; `place` is the position, or the relation of two objects.

    A picture with more or fewer objects than asked for has object, colour, place and size wrong.
    """

    object: bool
    colour: bool
    background: bool
    place: bool
    size: bool

    @property
    def all(self) -> bool:
        """Object, colour, background and place."""
        return self.object and self.colour and self.background and self.place


def to_classifier_input(crops: NDArray[np.uint8]) -> torch.Tensor:
    """uint8 (count, 32, 32, 3) as float32 (count, 3, 32, 32) in [-1, 1]."""
    return torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 127.5 - 1


@cache
def load_classifier(path: Path = WEIGHTS) -> ObjectClassifier:
    """The trained classifier, ready to judge."""
    classifier = ObjectClassifier()
    classifier.load_state_dict(load_file(path))
    return classifier.eval()


def look(image: NDArray[np.uint8]) -> tuple[Background, list[Blob], list[NDArray[np.uint8]]]:
    """Background, objects and their crops of one uint8 picture (128, 128, 3)."""
    backdrop = backdrop_colour(image)
    blobs = find_blobs(image, backdrop)
    return nearest_background(backdrop), blobs, [crop(image, blob, blobs, backdrop) for blob in blobs]


@torch.no_grad()
def read(images: NDArray[np.uint8], classifier: ObjectClassifier | None = None) -> list[Reading]:
    """Reads uint8 pictures (count, 128, 128, 3)."""
    classifier = classifier or load_classifier()
    looks = [look(image) for image in images]
    crops = [one for _, _, each in looks for one in each]
    shapes: list[int] = []
    colours: list[int] = []
    for start in range(0, len(crops), 256):
        shape, colour = classifier(to_classifier_input(np.stack(crops[start : start + 256])))
        shapes += shape.argmax(1).tolist()
        colours += colour.argmax(1).tolist()
    named = zip(shapes, colours, strict=True)
    readings: list[Reading] = []
    for background, blobs, _ in looks:
        objects: list[SeenObject] = []
        for blob in blobs:
            shape_index, colour_index = next(named)
            size = Size.LARGE if blob.extent > _LARGE else Size.SMALL
            objects.append(SeenObject(_SHAPES[shape_index], _COLOURS[colour_index], size, blob.centre))
        readings.append(Reading(background, tuple(objects)))
    return readings


def score(scenes: Sequence[Scene], readings: Sequence[Reading]) -> list[Marks]:
    """Compares what was asked for with what is seen, picture by picture."""
    return [_marks(scene, reading) for scene, reading in zip(scenes, readings, strict=True)]


def _marks(scene: Scene, reading: Reading) -> Marks:
    background = reading.background is scene.background
    if len(reading.objects) != len(scene.subjects):
        return Marks(object=False, colour=False, background=background, place=False, size=False)
    # Two objects are seen in no order: the one that grants most is what the picture means.
    candidates = [_matched(scene, objects, background) for objects in permutations(reading.objects)]
    return max(candidates, key=lambda marks: (marks.object, marks.colour + marks.place))


def _matched(scene: Scene, objects: tuple[SeenObject, ...], background: bool) -> Marks:
    pairs = list(zip(scene.subjects, objects, strict=True))
    if isinstance(scene, SingleScene):
        place = objects[0].position is scene.position
        size = objects[0].size is scene.size
    else:
        place = objects[0].relation_to(objects[1]) is scene.relation
        size = all(seen.size is Size.SMALL for seen in objects)
    return Marks(
        object=all(subject.shape is seen.shape for subject, seen in pairs),
        colour=all(subject.colour is seen.colour for subject, seen in pairs),
        background=background,
        place=place,
        size=size,
    )
