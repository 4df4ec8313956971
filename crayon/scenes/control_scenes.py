"""What the ControlNet learns from: scenes with free places, and edge maps of the same outlines in other colours."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from crayon.scenes.captions import canonical_caption, caption_variant
from crayon.scenes.dataset import PAIR_SHARE
from crayon.scenes.drawing import (
    BACKGROUND_RGB,
    COLOUR_RGB,
    IMAGE_SIZE,
    PAIR_RADIUS,
    SIZE_RADIUS,
    STARLIGHT,
    PlacedObject,
    Point,
    Rgb,
    centres,
    jittered_colour,
    paint,
    scatter,
)
from crayon.scenes.edges import canny
from crayon.scenes.grammar import (
    Background,
    Colour,
    PairScene,
    Position,
    Scene,
    Shape,
    SingleScene,
    Size,
    Split,
    Subject,
    is_visible,
    sample_pair,
    sample_single,
)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a scene's objects stand and its dots are: all that an edge map tells of it."""

    centres: tuple[Point, ...]
    reaches: tuple[float, ...]
    dots: tuple[Point, ...]


def _near(value: float, spread: float, rng: random.Random) -> float:
    return value + (rng.random() - 0.5) * spread


def crayon_layout(scene: Scene, rng: random.Random) -> Layout:
    """Places and sizes as crayon's own scenes have them; stars at night."""
    pair = isinstance(scene, PairScene)
    place_spread, size_spread = (0.03, 0.12) if pair else (0.05, 0.15)
    radius = PAIR_RADIUS if isinstance(scene, PairScene) else SIZE_RADIUS[scene.size]
    moved = tuple((_near(x, place_spread, rng), _near(y, place_spread, rng)) for x, y in centres(scene))
    dots = tuple(scatter(rng)) if scene.background is Background.NIGHT else ()
    return Layout(moved, tuple(_near(1, size_spread, rng) * radius for _ in moved), dots)


def free_layout(scene: Scene, rng: random.Random) -> Layout:
    """Any size, anywhere in the picture; the objects of a pair keep their order and never touch.

    Dots come with any background, and nights without: whether there are stars is the edge map's to say.
    """
    dots = tuple(scatter(rng)) if rng.random() < (0.5 if scene.background is Background.NIGHT else 0.25) else ()
    if isinstance(scene, SingleScene):
        reach = rng.uniform(0.13, 0.34)
        margin = 1.1 * reach
        return Layout(((rng.uniform(margin, 1 - margin), rng.uniform(margin, 1 - margin)),), (reach,), dots)
    places: list[Point] = []
    for x, y in centres(scene):
        # Little room along the axis on which the two stand, more across it.
        along, across = 0.04, 0.3
        spread = (across, along) if x == 0.5 else (along, across)
        places.append((_near(x, spread[0], rng), _near(y, spread[1], rng)))
    return Layout(tuple(places), tuple(rng.uniform(0.14, 0.185) for _ in places), dots)


def painted(scene: Scene, layout: Layout, rng: random.Random) -> NDArray[np.uint8]:
    """The scene's objects and colours in that layout, uint8 (128, 128, 3); shades vary with `rng`."""
    objects = [
        PlacedObject(subject.shape, jittered_colour(COLOUR_RGB[subject.colour], rng), centre, reach)
        for subject, centre, reach in zip(scene.subjects, layout.centres, layout.reaches, strict=True)
    ]
    ground = BACKGROUND_RGB[scene.background]
    dot_rgb: Rgb = STARLIGHT
    if scene.background is not Background.NIGHT:
        dot_rgb = (int(ground[0] * 0.7), int(ground[1] * 0.7), int(ground[2] * 0.7))
    return paint(ground, objects, layout.dots, dot_rgb)


def with_colours(scene: Scene, colours: Sequence[Colour], background: Background) -> Scene:
    """The same objects in the same places, in those colours on that background."""
    subjects = [Subject(subject.shape, colour) for subject, colour in zip(scene.subjects, colours, strict=True)]
    if isinstance(scene, SingleScene):
        return replace(scene, subject=subjects[0], background=background)
    return replace(scene, first=subjects[0], second=subjects[1], background=background)


def recoloured(scene: Scene, rng: random.Random) -> Scene:
    """The scene in other colours on another background: its edge map is that of the scene, as far as it is visible."""
    while True:
        colours = [rng.choice(list(Colour)) for _ in scene.subjects]
        other = with_colours(scene, colours, rng.choice(list(Background)))
        if is_visible(other):
            return other


def misled(scene: Scene, rng: random.Random) -> Scene:
    """The scene with other objects, and other size and place of a single one, each in half of the cases.

    Colours, background and the order of a pair stay: what a caption of it says of them is true of the picture, and of
    the rest the edge map decides.
    """
    shapes = rng.sample(list(Shape), 2)
    if isinstance(scene, SingleScene):
        subject = replace(scene.subject, shape=shapes[0]) if rng.random() < 0.5 else scene.subject
        size = rng.choice(list(Size)) if rng.random() < 0.5 else scene.size
        position = rng.choice(list(Position)) if rng.random() < 0.5 else scene.position
        return replace(scene, subject=subject, size=size, position=position)
    if rng.random() < 0.5:
        return replace(
            scene, first=replace(scene.first, shape=shapes[0]), second=replace(scene.second, shape=shapes[1])
        )
    return scene


def control_caption(scene: Scene, rng: random.Random, empty_share: float, plain_share: float) -> str:
    """Nothing, or a caption whose colours and background are true of `scene` and whose objects may not be.

    `plain_share` of the captions name neither place nor size, as those do who hand over a picture to say so.
    """
    share = rng.random()
    if share < empty_share:
        return ""
    described = misled(scene, rng)
    if share < empty_share + plain_share:
        return plain_caption(described)
    return canonical_caption(described) if rng.random() < 0.4 else caption_variant(described, rng)


def plain_caption(scene: Scene) -> str:
    """The canonical caption without the size and place of a single object, e.g. 'a purple star at night'."""
    if isinstance(scene, PairScene):
        return canonical_caption(scene)
    centred = canonical_caption(replace(scene, position=Position.CENTRE))
    without_size = centred.replace(f"a {scene.size} ", "", 1)
    return f"{'an' if without_size[0] in 'aeiou' else 'a'} {without_size}"


def control_scene(index: int, seed: int) -> tuple[Scene, Layout, random.Random]:
    """Scene number `index` of the ControlNet's training set, its layout, and the generator to paint it with."""
    rng = random.Random(f"crayon-control:{seed}:{index}")
    scene: Scene = sample_pair(rng, Split.TRAIN) if rng.random() < PAIR_SHARE else sample_single(rng, Split.TRAIN)
    layout = crayon_layout(scene, rng) if rng.random() < 0.5 else free_layout(scene, rng)
    return scene, layout, rng


@dataclass(frozen=True)
class ControlScenes:
    """`latents` are scaled, float16 (count, 4, 16, 16); `edges` are packed, uint8 (count, 2, 128, 16).

    Of each scene there are two edge maps: its own, and that of the same layout in other colours, which shows edges
    that its own colours hide, and none where the others hide them.
    """

    scenes: list[Scene]
    latents: torch.Tensor
    edges: torch.Tensor

    def edge_maps(self, indices: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        """Map number `which` (0 or 1) of each scene, float32 (rows, 3, 128, 128) of 0 and 1, as pipelines give it."""
        packed = self.edges[indices, which].numpy()
        unpacked = np.unpackbits(packed, axis=-1)[:, None]
        return torch.from_numpy(unpacked).float().expand(-1, 3, -1, -1)


def paint_chunk(start: int, stop: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images uint8 (rows, 128, 128, 3) and packed edge maps uint8 (rows, 2, 128, 16) of scenes `start` to `stop`."""
    images = np.empty((stop - start, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    edges = np.empty((stop - start, 2, IMAGE_SIZE, IMAGE_SIZE // 8), np.uint8)
    for row in range(stop - start):
        scene, layout, rng = control_scene(start + row, seed)
        images[row] = painted(scene, layout, rng)
        twin = painted(recoloured(scene, rng), layout, rng)
        edges[row] = np.packbits([canny(images[row]), canny(twin)], axis=-1)
    return images, edges
