"""Teaches the text encoder what captions say before any picture is drawn from them."""

import random

import torch
import torch.nn.functional as F
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from crayon.scenes.captions import caption_variant
from crayon.scenes.grammar import (
    Background,
    Colour,
    PairScene,
    Position,
    Scene,
    Shape,
    Size,
    Split,
    Subject,
    sample_pair,
    sample_single,
)
from crayon.training.optimizers import set_learning_rate
from crayon.training.tokenizer import token_ids

_SHAPES, _COLOURS, _BACKGROUNDS, _SIZES = list(Shape), list(Colour), list(Background), list(Size)
# One more shape and colour for "nothing here", one more size for "two objects".
_HEADS = (len(_SHAPES) + 1, len(_COLOURS) + 1, len(_BACKGROUNDS), len(_SIZES) + 1)


def subjects_by_place(scene: Scene) -> dict[Position, Subject]:
    """What stands where, however the caption puts it."""
    if isinstance(scene, PairScene):
        return dict(zip(scene.relation.places, scene.subjects, strict=True))
    return {scene.position: scene.subject}


def place_targets(scenes: list[Scene]) -> torch.Tensor:
    """int64 (scenes, 5 places, 4): shape, colour, background and size to be read at each place's token."""
    rows = []
    for scene in scenes:
        standing = subjects_by_place(scene)
        size = len(_SIZES) if isinstance(scene, PairScene) else _SIZES.index(scene.size)
        common = [_BACKGROUNDS.index(scene.background), size]
        places = []
        for place in Position:
            subject = standing.get(place)
            shape = len(_SHAPES) if subject is None else _SHAPES.index(subject.shape)
            colour = len(_COLOURS) if subject is None else _COLOURS.index(subject.colour)
            places.append([shape, colour, *common])
        rows.append(places)
    return torch.tensor(rows)


class PlaceReader(nn.Module):
    """Reads one place from each of the last five token positions, by one linear map shared by all."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.read = nn.Linear(width, sum(_HEADS))

    def forward(self, embeddings: torch.Tensor) -> list[torch.Tensor]:
        """Prompt embeddings (count, tokens, width) to four logits (count, 5, classes)."""
        return list(self.read(embeddings[:, -len(Position) :]).split(_HEADS, -1))


def warm_up(
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    steps: int,
    learning_rate: float = 2e-3,
    batch: int = 64,
    seed: int = 5,
) -> list[float]:
    """Trains the encoder to gather, at the five last (padding) positions, what the caption puts at the five places.

    Cross-attention then finds "what belongs here" by position alone instead of having to learn grammar from pixels.
    Returns the accuracy of shape, colour, background and size over the last fifty batches.
    """
    torch.manual_seed(seed)
    device = text_encoder.device
    reader = PlaceReader(text_encoder.config.hidden_size).to(device)
    optimizer = torch.optim.AdamW([*text_encoder.parameters(), *reader.parameters()], learning_rate, (0.9, 0.99))
    rng = random.Random(seed)
    right: list[list[float]] = []
    for step in range(steps):
        set_learning_rate(optimizer, learning_rate * min(1.0, (step + 1) / 100) * (1.02 - step / steps))
        scenes: list[Scene] = [
            sample_pair(rng, Split.TRAIN) if index % 2 else sample_single(rng, Split.TRAIN) for index in range(batch)
        ]
        ids = torch.tensor(token_ids(tokenizer, [caption_variant(scene, rng) for scene in scenes])).to(device)
        targets = place_targets(scenes).to(device)
        logits = reader(text_encoder(ids).last_hidden_state)
        parts = [F.cross_entropy(head.flatten(0, 1), targets[..., i].flatten()) for i, head in enumerate(logits)]
        loss = torch.stack(parts).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(text_encoder.parameters(), 1.0)
        optimizer.step()
        right.append([(head.argmax(-1) == targets[..., i]).float().mean().item() for i, head in enumerate(logits)])
    recent = torch.tensor(right[-50:])
    return [round(value, 4) for value in recent.mean(0).tolist()]
