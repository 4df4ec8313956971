"""Trains and tests the judge's classifier on its own drawings, apart from anything that crayon learns from."""

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import save_file
from tqdm import tqdm  # type: ignore[import-untyped]

from crayon.judge.judge import WEIGHTS, Marks, ObjectClassifier, look, read, score, to_classifier_input
from crayon.reports import write_json
from crayon.scenes.drawing import draw
from crayon.scenes.grammar import Colour, Scene, Shape, Split, sample_pair, sample_single
from crayon.training.checkpoint import parameter_count
from crayon.training.optimizers import set_learning_rate
from crayon.training.trainer import step_seed

_SHAPES, _COLOURS = list(Shape), list(Colour)


@dataclass(frozen=True)
class JudgeTraining:
    """How the classifier is trained; its scenes come from every split, unlike crayon's."""

    scenes: int = 5000
    steps: int = 900
    batch: int = 64
    learning_rate: float = 2e-3
    seed: int = 9001
    test_scenes: int = 3000
    test_seed: int = 77003


def judge_scenes(count: int, seed: int) -> tuple[list[Scene], NDArray[np.uint8]]:
    """Scenes of every split, half of them pairs, and their pictures uint8 (count, 128, 128, 3)."""
    rng = random.Random(f"judge:{seed}")
    scenes: list[Scene] = []
    for index in range(count):
        split = rng.choice(list(Split))
        scenes.append(sample_pair(rng, split) if index % 2 else sample_single(rng, split))
    return scenes, np.stack([draw(scene, rng) for scene in scenes])


def labelled_crops(scenes: list[Scene], images: NDArray[np.uint8]) -> tuple[torch.Tensor, torch.Tensor]:
    """Crops float (count, 3, 32, 32) with their labels int64 (count, 2): shape and colour.

    The objects of a pair are told apart by where they stand, which the drawing fixes.
    """
    crops: list[NDArray[np.uint8]] = []
    labels: list[tuple[int, int]] = []
    for scene, image in zip(scenes, images, strict=True):
        _, blobs, cut = look(image)
        if len(cut) != len(scene.subjects):
            continue
        ordered = scene if len(cut) == 1 else scene.from_left_or_top  # type: ignore[union-attr]
        order = sorted(range(len(blobs)), key=lambda i: sum(blobs[i].centre))
        for subject, index in zip(ordered.subjects, order, strict=True):
            crops.append(cut[index])
            labels.append((_SHAPES.index(subject.shape), _COLOURS.index(subject.colour)))
    return to_classifier_input(np.stack(crops)), torch.tensor(labels)


def augmented(crops: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Crops as a generator might draw them: off in tint, blurred, noisy, shifted and squeezed a little."""
    count = len(crops)

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(count, *shape, generator=generator) * 2 - 1

    tinted = crops * (1 + 0.08 * uniform(3, 1, 1)) + 0.06 * uniform(3, 1, 1)
    frame = torch.zeros(count, 2, 3)
    frame[:, 0, 0] = 1 + 0.12 * uniform()
    frame[:, 1, 1] = 1 + 0.12 * uniform()
    frame[:, 0, 1], frame[:, 1, 0] = 0.08 * uniform(), 0.08 * uniform()
    frame[:, :, 2] = 0.1 * uniform(2)
    grid = F.affine_grid(frame, list(crops.shape), align_corners=False)
    moved = F.grid_sample(tinted, grid, padding_mode="border", align_corners=False)
    soft = F.avg_pool2d(moved, 3, stride=1, padding=1, count_include_pad=False)
    softness = torch.rand(count, 1, 1, 1, generator=generator)
    noise = torch.randn(crops.shape, generator=generator) * 0.12 * torch.rand(count, 1, 1, 1, generator=generator)
    return moved + softness * (soft - moved) + noise


def train_step(
    classifier: ObjectClassifier,
    optimizer: torch.optim.Optimizer,
    crops: torch.Tensor,
    labels: torch.Tensor,
    generator: torch.Generator,
    batch: int,
) -> float:
    """One step on a random batch; returns the cross-entropy of shape and colour together."""
    rows = torch.randint(0, len(crops), (batch,), generator=generator)
    shape, colour = classifier(augmented(crops[rows], generator))
    loss = F.cross_entropy(shape, labels[rows, 0]) + F.cross_entropy(colour, labels[rows, 1])
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.item()


def accuracy(marks: list[Marks]) -> dict[str, float]:
    """The share of pictures read right, by attribute."""
    names = ("object", "colour", "background", "place", "size", "all")
    return {name: sum(bool(getattr(mark, name)) for mark in marks) / len(marks) for name in names}


def train_judge(settings: JudgeTraining = JudgeTraining(), weights: Path = WEIGHTS) -> dict[str, float]:
    """Trains, tests on fresh drawings, writes weights and test result; returns the test's accuracies."""
    torch.manual_seed(settings.seed)
    classifier = ObjectClassifier()
    optimizer = torch.optim.AdamW(classifier.parameters(), settings.learning_rate, weight_decay=1e-2)
    crops, labels = labelled_crops(*judge_scenes(settings.scenes, settings.seed))
    for step in tqdm(range(settings.steps), desc="judge", mininterval=10):
        set_learning_rate(optimizer, settings.learning_rate * (1.01 - step / settings.steps))
        generator = torch.Generator().manual_seed(step_seed(settings.seed, step))
        train_step(classifier, optimizer, crops, labels, generator, settings.batch)
    classifier.eval()
    scenes, images = judge_scenes(settings.test_scenes, settings.test_seed)
    tested = accuracy(score(scenes, read(images, classifier)))
    weights.parent.mkdir(parents=True, exist_ok=True)
    save_file(classifier.state_dict(), weights)
    weights.chmod(0o644)
    result = {"parameters": parameter_count(classifier), "test_scenes": settings.test_scenes, "accuracy": tested}
    write_json(weights.parent / "test.json", result)
    return tested
