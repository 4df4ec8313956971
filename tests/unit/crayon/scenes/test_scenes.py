"""The grammar: what is held out stays out, and a seed fixes everything."""

import random

import numpy as np
import pytest

from crayon.scenes.dataset import training_scene
from crayon.scenes.drawing import draw
from crayon.scenes.grammar import (
    UNSEEN_PAIRS,
    Background,
    Colour,
    PairScene,
    Position,
    Relation,
    Shape,
    SingleScene,
    Size,
    Split,
    Subject,
    distinct_scenes,
    is_visible,
    sample_pair,
    sample_single,
    split_of,
)


def test_drawing_depends_on_scene_and_generator_alone() -> None:
    scene = sample_pair(random.Random(1), Split.TRAIN)
    first, second = draw(scene, random.Random(2)), draw(scene, random.Random(2))
    assert first.shape == (128, 128, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, second)
    assert (draw(scene, random.Random(3)) != first).any()


def test_every_shape_is_drawn_differently() -> None:
    drawn = [
        draw(SingleScene(Subject(shape, Colour.RED), Size.LARGE, Position.CENTRE, Background.GRAY), random.Random(0))
        for shape in Shape
    ]
    for index, image in enumerate(drawn):
        for other in drawn[index + 1 :]:
            assert (image != other).any(-1).mean() > 0.01


def test_training_scenes_never_show_what_is_held_out() -> None:
    scenes = [training_scene(index, 7)[0] for index in range(2000)]
    assert all(split_of(scene) is Split.TRAIN for scene in scenes)
    assert not any(subject in UNSEEN_PAIRS for scene in scenes for subject in scene.subjects)
    held_out = set(distinct_scenes(200, Split.HELD_OUT, pairs=True, seed=1))
    assert not any(scene in held_out or scene.inverse in held_out for scene in scenes if isinstance(scene, PairScene))
    assert 0.3 < sum(isinstance(scene, PairScene) for scene in scenes) / 2000 < 0.5


def test_one_combination_in_ten_is_held_out() -> None:
    rng = random.Random(0)
    scenes = [
        SingleScene(
            Subject(rng.choice(list(Shape)), rng.choice(list(Colour))),
            rng.choice(list(Size)),
            rng.choice(list(Position)),
            rng.choice(list(Background)),
        )
        for _ in range(4000)
    ]
    seen = [scene for scene in scenes if split_of(scene) is not Split.UNSEEN_PAIR]
    assert 0.07 < sum(split_of(scene) is Split.HELD_OUT for scene in seen) / len(seen) < 0.13


def test_every_shape_is_kept_from_one_colour() -> None:
    assert {subject.shape for subject in UNSEEN_PAIRS} == set(Shape)
    assert len(UNSEEN_PAIRS) == len(Shape)


@pytest.mark.parametrize("split", list(Split))
@pytest.mark.parametrize("pairs", [False, True])
def test_suites_are_distinct_visible_and_repeatable(split: Split, pairs: bool) -> None:
    scenes = distinct_scenes(100, split, pairs=pairs, seed=5)
    assert len(set(scenes)) == 100
    assert all(split_of(scene) is split and is_visible(scene) for scene in scenes)
    assert scenes == distinct_scenes(100, split, pairs=pairs, seed=5)


def test_a_pair_told_from_either_object_belongs_to_one_split() -> None:
    rng = random.Random(4)
    for _ in range(200):
        scene = sample_pair(rng, Split.HELD_OUT)
        assert split_of(scene.inverse) is Split.HELD_OUT
        assert scene.inverse.inverse == scene
        assert scene.from_left_or_top == scene.inverse.from_left_or_top
        assert scene.first.shape is not scene.second.shape


def test_black_is_not_drawn_at_night() -> None:
    black = Subject(Shape.STAR, Colour.BLACK)
    assert not is_visible(SingleScene(black, Size.SMALL, Position.LEFT, Background.NIGHT))
    pair = PairScene(black, Relation.ABOVE, Subject(Shape.TREE, Colour.RED), Background.NIGHT)
    assert not is_visible(pair)
    assert all(
        sample_single(random.Random(seed), Split.TRAIN).background is not Background.NIGHT
        or sample_single(random.Random(seed), Split.TRAIN).subject.colour is not Colour.BLACK
        for seed in range(300)
    )
