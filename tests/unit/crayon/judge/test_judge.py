"""The judge reads fresh drawings right and is not fooled by wrong ones."""

import random
from dataclasses import replace

import numpy as np
import torch

from crayon.judge.judge import load_classifier, read, score
from crayon.judge.train_judge import ObjectClassifier, accuracy, judge_scenes, labelled_crops, train_step
from crayon.scenes.drawing import draw
from crayon.scenes.grammar import Background, Colour, PairScene, Relation, Shape, Split, Subject, sample_single


def test_reads_drawings_it_never_saw() -> None:
    scenes, images = judge_scenes(400, seed=123456)
    found = accuracy(score(scenes, read(images)))
    assert min(found.values()) >= 0.99, found


def test_reads_blurred_and_noisy_drawings() -> None:
    scenes, images = judge_scenes(200, seed=654321)
    rng = np.random.default_rng(0)
    soft = images.astype(np.float32)
    soft = (soft + np.roll(soft, 1, 1) + np.roll(soft, 1, 2) + np.roll(soft, (1, 1), (1, 2))) / 4
    noisy = np.clip(soft + rng.normal(0, 4, soft.shape), 0, 255).astype(np.uint8)
    found = accuracy(score(scenes, read(noisy)))
    assert found["all"] >= 0.97, found


def test_names_each_thing_that_is_wrong() -> None:
    rng = random.Random(0)
    for _ in range(20):
        asked = sample_single(rng, Split.TRAIN)
        reading = read(draw(asked, rng)[None])
        other_shape = next(shape for shape in Shape if shape is not asked.subject.shape)
        other_colour = next(colour for colour in Colour if colour is not asked.subject.colour)
        wrong_shape = replace(asked, subject=replace(asked.subject, shape=other_shape))
        wrong_colour = replace(asked, subject=replace(asked.subject, colour=other_colour))
        wrong_background = replace(asked, background=next(b for b in Background if b is not asked.background))
        assert score([asked], reading)[0].all
        assert not score([wrong_shape], reading)[0].object
        assert not score([wrong_colour], reading)[0].colour
        assert not score([wrong_background], reading)[0].background


def test_swapped_colours_and_turned_relations_are_wrong() -> None:
    star, fish = Subject(Shape.STAR, Colour.RED), Subject(Shape.FISH, Colour.TEAL)
    asked = PairScene(star, Relation.LEFT_OF, fish, Background.GRAY)
    reading = read(draw(asked, random.Random(1))[None])
    assert score([asked], reading)[0].all
    assert score([asked.inverse], reading)[0].all
    turned = PairScene(star, Relation.RIGHT_OF, fish, Background.GRAY)
    assert not score([turned], reading)[0].place
    swapped = PairScene(
        Subject(Shape.STAR, Colour.TEAL), Relation.LEFT_OF, Subject(Shape.FISH, Colour.RED), Background.GRAY
    )
    assert not score([swapped], reading)[0].all


def test_a_missing_object_is_wrong() -> None:
    rng = random.Random(5)
    single = sample_single(rng, Split.TRAIN)
    pair = PairScene(
        single.subject,
        Relation.ABOVE,
        Subject(next(shape for shape in Shape if shape is not single.subject.shape), Colour.RED),
        single.background,
    )
    marks = score([pair], read(draw(single, rng)[None]))[0]
    assert not marks.object
    assert marks.background


def test_a_blank_picture_is_no_object() -> None:
    assert read(np.full((1, 128, 128, 3), 200, np.uint8))[0].objects == ()


def test_weights_are_small() -> None:
    assert sum(parameter.numel() for parameter in load_classifier().parameters()) < 1_000_000


def test_training_steps_learn() -> None:
    torch.manual_seed(0)
    crops, labels = labelled_crops(*judge_scenes(60, seed=3))
    classifier = ObjectClassifier()
    optimizer = torch.optim.AdamW(classifier.parameters(), 2e-3)
    losses = [
        train_step(classifier, optimizer, crops, labels, torch.Generator().manual_seed(step), 32) for step in range(12)
    ]
    assert losses[-1] < losses[0]
