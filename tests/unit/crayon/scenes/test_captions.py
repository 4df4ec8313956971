"""Captions say what the scene shows, in many wordings, within the tokenizer's length."""

import random

import pytest

from crayon.scenes.captions import canonical_caption, caption_variant
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
    Split,
    Subject,
    distinct_scenes,
    sample_pair,
    sample_single,
)
from crayon.training.tokenizer import MAX_TOKENS, build_tokenizer

RED_STAR, BLUE_SQUARE = Subject(Shape.STAR, Colour.RED), Subject(Shape.SQUARE, Colour.BLUE)


@pytest.mark.parametrize(
    ("scene", "caption"),
    [
        (
            SingleScene(Subject(Shape.HEART, Colour.RED), Size.LARGE, Position.CENTRE, Background.BLUE),
            "a large red heart on a blue background",
        ),
        (
            SingleScene(Subject(Shape.TREE, Colour.GREEN), Size.SMALL, Position.LEFT, Background.NIGHT),
            "a small green tree on the left at night",
        ),
        (
            PairScene(RED_STAR, Relation.LEFT_OF, BLUE_SQUARE, Background.GRAY),
            "a red star to the left of a blue square on a gray background",
        ),
        (
            PairScene(Subject(Shape.STAR, Colour.ORANGE), Relation.BELOW, BLUE_SQUARE, Background.NIGHT),
            "an orange star below a blue square at night",
        ),
    ],
)
def test_canonical_caption(scene: Scene, caption: str) -> None:
    assert canonical_caption(scene) == caption


def test_canonical_captions_tell_scenes_apart() -> None:
    scenes = distinct_scenes(300, Split.TRAIN, pairs=False, seed=1) + distinct_scenes(
        300, Split.TRAIN, pairs=True, seed=1
    )
    assert len({canonical_caption(scene) for scene in scenes}) == 600


def test_captions_fit_and_every_word_is_one_token() -> None:
    tokenizer = build_tokenizer()
    rng = random.Random(3)
    for index in range(1500):
        scene = sample_pair(rng, Split.TRAIN) if index % 2 else sample_single(rng, Split.TRAIN)
        for caption in (canonical_caption(scene), caption_variant(scene, rng)):
            words = caption.replace(",", " ,").split()
            ids = tokenizer(caption).input_ids
            assert len(ids) == len(words) + 2 <= MAX_TOKENS


def test_variants_are_many_and_true_to_the_scene() -> None:
    scene = PairScene(RED_STAR, Relation.LEFT_OF, BLUE_SQUARE, Background.GRAY)
    variants = {caption_variant(scene, random.Random(seed)) for seed in range(400)}
    assert len(variants) > 100
    for variant in variants:
        assert "star" in variant
        assert "square" in variant
        star_first = variant.index("star") < variant.index("square")
        if "left of" in variant:
            assert star_first
        if "right of" in variant:
            assert not star_first
