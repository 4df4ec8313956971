"""How users change their minds: a scene that differs in one attribute, and other words for the same scene."""

import random
from dataclasses import replace
from enum import StrEnum
from typing import TypeVar

from crayon.scenes.captions import caption_variant
from crayon.scenes.grammar import (
    Background,
    Colour,
    PairScene,
    Position,
    Relation,
    Scene,
    Shape,
    SingleScene,
    Size,
    Subject,
    is_visible,
)

_Kind = TypeVar("_Kind", bound=StrEnum)
EDITS = ("colour", "shape", "background", "place", "size", "object")


def _other(rng: random.Random, value: _Kind) -> _Kind:
    return rng.choice([one for one in type(value) if one is not value])


def _edited_once(scene: Scene, rng: random.Random, edit: str) -> Scene:
    if edit == "background":
        return replace(scene, background=_other(rng, scene.background))
    if isinstance(scene, SingleScene):
        subject = scene.subject
        if edit == "colour":
            return replace(scene, subject=replace(subject, colour=_other(rng, subject.colour)))
        if edit == "shape":
            return replace(scene, subject=replace(subject, shape=_other(rng, subject.shape)))
        if edit == "place":
            return replace(scene, position=_other(rng, scene.position))
        if edit == "size":
            return replace(scene, size=_other(rng, scene.size))
        second = Subject(_other(rng, subject.shape), rng.choice(list(Colour)))
        return PairScene(subject, rng.choice(list(Relation)), second, scene.background)
    first, second = scene.subjects
    if edit == "colour":
        return replace(scene, second=replace(second, colour=_other(rng, second.colour)))
    if edit == "shape":
        unlike = [shape for shape in Shape if shape not in (first.shape, second.shape)]
        return replace(scene, second=replace(second, shape=rng.choice(unlike)))
    if edit == "place":
        return replace(scene, relation=_other(rng, scene.relation))
    return SingleScene(first, rng.choice(list(Size)), rng.choice(list(Position)), scene.background)


def edited(scene: Scene, rng: random.Random, edits: int = 1) -> Scene:
    """The scene after so many edits, each of one attribute: visible, and not what it was."""
    while True:
        changed = scene
        for _ in range(edits):
            changed = _edited_once(changed, rng, rng.choice(EDITS))
        if changed != scene and is_visible(changed):
            return changed


def _says_all(scene: Scene, caption: str) -> bool:
    """Whether no attribute was left out (a centre or a pair's size has no words of its own)."""
    padded = f" {caption.replace(',', ' ')} "
    words = [word for subject in scene.subjects for word in (subject.shape.value, subject.colour.value)]
    if not all(f" {word} " in padded for word in words):
        return False
    if scene.background is Background.NIGHT:
        if " night " not in padded:
            return False
    elif f" {scene.background.value} background" not in padded:
        return False
    if isinstance(scene, PairScene):
        places = ("left", "right", "above", "over", "below", "under", "beneath", "top", "bottom")
        return any(f" {word} " in padded for word in places)
    sizes = ("small", "little", "tiny", "large", "big", "huge")
    placed = ("left", "right", "top", "upper", "above", "bottom", "lower", "below")
    return any(f" {word} " in padded for word in sizes) and (
        scene.position is Position.CENTRE or any(f" {word} " in padded for word in placed)
    )


def paraphrase(scene: Scene, rng: random.Random) -> str:
    """A random wording of the scene that leaves nothing out."""
    while True:
        caption = caption_variant(scene, rng)
        if _says_all(scene, caption):
            return caption
