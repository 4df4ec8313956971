"""What the ControlNet is trained on and judged by: captions may mislead about outlines, never about colours."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.models import ControlNetModel
from numpy.typing import NDArray
from PIL import Image

from crayon.judge.evaluate import diffusers_generate
from crayon.judge.evaluate_control import (
    control_sheet,
    control_summary,
    control_table,
    judge_controlled,
)
from crayon.judge.judge import read, score
from crayon.scenes.control_scenes import (
    control_caption,
    control_scene,
    crayon_layout,
    misled,
    paint_chunk,
    painted,
    plain_caption,
    recoloured,
)
from crayon.scenes.control_suites import CONTROL_SUITES, PromptChange
from crayon.scenes.drawing import draw
from crayon.scenes.edges import canny, control_image, edge_agreement
from crayon.scenes.grammar import Background, Position, SingleScene, Split, distinct_scenes, split_of
from crayon.training.checkpoint import CHECKPOINT, CONTROLNET, parameter_count

SCENES = [
    *distinct_scenes(30, Split.TRAIN, pairs=False, seed=1),
    *distinct_scenes(30, Split.TRAIN, pairs=True, seed=1),
]


def test_captions_mislead_about_outlines_only() -> None:
    rng = random.Random(2)
    changed = 0
    for scene in SCENES:
        told = misled(scene, rng)
        assert [subject.colour for subject in told.subjects] == [subject.colour for subject in scene.subjects]
        assert told.background is scene.background
        changed += [subject.shape for subject in told.subjects] != [subject.shape for subject in scene.subjects]
    assert 0.25 * len(SCENES) < changed < 0.75 * len(SCENES)


def test_captions_come_in_the_asked_shares() -> None:
    rng = random.Random(3)
    single = SCENES[0]
    captions = [control_caption(single, rng, empty_share=0.2, plain_share=0.3) for _ in range(600)]
    assert 0.14 < captions.count("") / 600 < 0.26
    assert control_caption(single, rng, empty_share=1, plain_share=0) == ""


def test_plain_captions_leave_size_and_place_to_the_edges() -> None:
    for scene in SCENES[:30]:
        assert isinstance(scene, SingleScene)
        words = plain_caption(scene).split()
        assert words[0] in ("a", "an")
        assert words[1:3] == [scene.subject.colour, scene.subject.shape]
        assert not {"small", "large", "left", "right", "top", "bottom"} & set(words)


def test_the_twin_in_other_colours_has_the_same_outlines() -> None:
    agreements = []
    for index, scene in enumerate(SCENES):
        rng = random.Random(index)
        layout = crayon_layout(scene, rng)
        twin = recoloured(scene, rng)
        assert [one.shape for one in twin.subjects] == [one.shape for one in scene.subjects]
        agreements.append(edge_agreement(canny(painted(scene, layout, rng)), canny(painted(twin, layout, rng))))
    # Some colours hide edges from others: white on gray, a yellow object on yellow.
    assert np.mean(agreements) > 0.85
    assert np.median(agreements) > 0.97


def test_training_pictures_show_their_scenes_wherever_they_stand() -> None:
    images, edges = paint_chunk(0, 60, seed=9)
    assert edges.shape == (60, 2, 128, 16)
    scenes = [control_scene(index, 9)[0] for index in range(60)]
    assert all(split_of(scene) is Split.TRAIN for scene in scenes)
    marks = score(scenes, read(images))
    assert np.mean([mark.object and mark.colour and mark.background for mark in marks]) > 0.9
    own = np.unpackbits(edges[:, 0], axis=-1).astype(bool)
    assert np.array_equal(own[7], canny(images[7]))
    again, _ = paint_chunk(30, 31, seed=9)
    assert np.array_equal(again[0], images[30])


@pytest.mark.parametrize("suite", CONTROL_SUITES, ids=lambda suite: suite.name)
def test_half_of_the_pairs_ask_for_something_else(suite: object) -> None:
    cases = suite.cases(40)
    assert [case.prompt for case in cases] == [case.prompt for case in suite.cases(40)]
    assert sum(case.change is PromptChange.NONE for case in cases) == 20
    for case in cases:
        assert split_of(case.wanted) is not Split.TRAIN
        assert str(case.wanted.subjects[0].colour) in case.prompt
        named = str(case.wanted.subjects[0].shape) in case.prompt
        assert named is (case.change is not PromptChange.OBJECT)


def test_summary_tells_kept_edges_from_lost_ones(tmp_path: Path) -> None:
    suite = CONTROL_SUITES[0]
    cases = suite.cases(12)

    def as_source(change: PromptChange) -> NDArray[np.uint8]:
        return np.stack([case.source for case in cases if case.change is change])

    same = [case for case in cases if case.change is PromptChange.NONE]
    kept = judge_controlled(same, as_source(PromptChange.NONE))
    assert all(one.agreement == 1.0 and one.obeyed for one in kept)
    recolouring = [case for case in cases if case.change is PromptChange.COLOUR]
    assert not any(one.obeyed for one in judge_controlled(recolouring, as_source(PromptChange.COLOUR)))
    elsewhere = [SingleScene(s.subject, s.size, _across(s.position), s.background) for s in (c.wanted for c in same)]
    lost = judge_controlled(same, np.stack([draw(scene, random.Random(1)) for scene in elsewhere]))
    result = control_summary(suite, kept, lost)
    assert result["goal_met"]
    assert result["with_control"]["edge_f1"] == 1.0
    assert result["without_control"]["edge_f1"] < 0.4
    assert not control_summary(suite, lost, lost)["goal_met"]
    assert suite.name in control_table({suite.name: result})
    control_sheet(kept, lost, tmp_path / "sheet.png", columns=2)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (2 * 4 * 128, 3 * 128)


def _across(position: Position) -> Position:
    return Position.RIGHT if position is not Position.RIGHT else Position.LEFT


def test_nights_need_no_stars() -> None:
    stars = [
        bool(layout.dots)
        for scene, layout, _ in (control_scene(index, 9) for index in range(400))
        if scene.background is Background.NIGHT
    ]
    assert any(stars)
    assert not all(stars)


@pytest.fixture(scope="module")
def controlnet() -> ControlNetModel:
    return ControlNetModel.from_pretrained(CONTROLNET, torch_dtype=torch.float32)


def test_the_bundled_controlnet_is_small_and_tied_to_no_machine(controlnet: ControlNetModel) -> None:
    assert parameter_count(controlnet) <= 6_000_000
    assert controlnet.config.block_out_channels == [64, 128, 192]
    assert {path.suffix for path in CONTROLNET.iterdir()} == {".json", ".safetensors"}
    config = json.loads((CONTROLNET / "config.json").read_text())
    assert "_name_or_path" not in config


def test_the_bundled_controlnet_keeps_edges_and_obeys_colours() -> None:
    torch.set_num_threads(1)
    cases = CONTROL_SUITES[0].cases(4)
    generate = diffusers_generate(CHECKPOINT, steps=8, guidance=4.0, controlnet=CONTROLNET)
    prompts, seeds = [case.prompt for case in cases], [case.seed for case in cases]
    images = generate(prompts, seeds, np.stack([control_image(case.edges) for case in cases]))
    results = judge_controlled(cases, images)
    assert np.mean([one.agreement for one in results]) > 0.7
    assert all(one.obeyed for one in results)
