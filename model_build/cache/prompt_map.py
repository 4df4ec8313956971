"""Trains the map from a prompt's embedding to the image that the checkpoint makes of it on average."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_INPUTS, _HIDDEN, _CODE = 256, 1024, 256
EPOCHS = 40
_BATCH, _RATE = 64, 2e-3
_HELD_OUT = 0.1


def train(
    embeds: Floats, images: Floats, advance: Callable[[], None] = lambda: None
) -> tuple[dict[str, Floats], float]:
    """Weights by the names that `runtime.cache.calibrated.PromptMap` reads, and R2 on prompts that were held out.

    `embeds` is float32 [n, L * D], `images` float32 [n, C * h * w]. Principal components on both sides; between them a
    linear path and one hidden layer that learns what it leaves. Deterministic on one machine.
    """
    count = len(embeds) - int(_HELD_OUT * len(embeds))
    prompt_mean, prompt_basis = _components(embeds[:count], _INPUTS)
    raw = (embeds - prompt_mean) @ prompt_basis
    scale = np.float32(raw[:count].std())
    prompt_basis = prompt_basis / scale
    inputs: Floats = (raw / scale).astype(np.float32)
    image_mean, image_basis = _components(images[:count], _CODE)
    codes = (images - image_mean) @ image_basis
    gram = inputs[:count].T @ inputs[:count]
    skip = np.linalg.solve(gram + 10 * np.eye(len(gram)), inputs[:count].T @ codes[:count]).astype(np.float32)
    left: Floats = (codes[:count] - inputs[:count] @ skip).astype(np.float32)
    layers = _residual(inputs[:count], left, advance)
    weights = {
        "prompt_mean": prompt_mean,
        "prompt_basis": prompt_basis,
        "skip": skip,
        **layers,
        "image_basis": image_basis.T,
    }
    # Each component counts by how much prompts differ in it: a shape is as much of a change as a background, though it
    # moves fewer pixels.
    weights["metric"] = 1 / code(weights, embeds[:count]).std(0)
    weights = {name: np.ascontiguousarray(weight, np.float16) for name, weight in weights.items()}
    predicted = code(weights, embeds[count:]) @ weights["image_basis"].astype(np.float32) + image_mean
    error = np.square(predicted - images[count:]).sum() / np.square(image_mean - images[count:]).sum()
    return weights, float(1 - error)


def code(weights: dict[str, Floats], embeds: Floats) -> Floats:
    """float32 [n, L * D] -> codes float32 [n, r], as the runtime computes them."""
    w = {name: weight.astype(np.float32) for name, weight in weights.items()}
    inputs = (embeds - w["prompt_mean"]) @ w["prompt_basis"]
    hidden: Floats = np.maximum(inputs @ w["hidden"] + w["hidden_bias"], np.float32(0))
    codes: Floats = inputs @ w["skip"] + hidden @ w["output"] + w["output_bias"]
    return codes


def _components(rows: Floats, count: int) -> tuple[Floats, Floats]:
    """Mean and the first principal components, [D, count]."""
    mean = rows.mean(0)
    _, _, basis = np.linalg.svd(rows[:2000] - mean, full_matrices=False)
    return mean, basis[:count].T


def _residual(inputs: Floats, wanted: Floats, advance: Callable[[], None]) -> dict[str, Floats]:
    import torch

    generator = torch.Generator().manual_seed(0)
    size, codes = inputs.shape[1], wanted.shape[1]
    shapes = {"hidden": (size, _HIDDEN), "hidden_bias": (_HIDDEN,), "output": (_HIDDEN, codes), "output_bias": (codes,)}
    layers = {name: torch.zeros(shape) for name, shape in shapes.items()}
    layers["hidden"].normal_(0, size**-0.5, generator=generator)
    layers["output"].normal_(0, 0.1 * _HIDDEN**-0.5, generator=generator)
    for layer in layers.values():
        layer.requires_grad_()
    steps = EPOCHS * (len(inputs) // _BATCH)
    optimizer = torch.optim.AdamW(layers.values(), _RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))
    x, y = torch.from_numpy(inputs), torch.from_numpy(wanted)
    for _ in range(EPOCHS):
        order = torch.randperm(len(x), generator=generator)
        for rows in order[: len(x) // _BATCH * _BATCH].view(-1, _BATCH):
            hidden = torch.relu(x[rows] @ layers["hidden"] + layers["hidden_bias"])
            loss = (hidden @ layers["output"] + layers["output_bias"] - y[rows]).square().mean()
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
        advance()
    return {name: layer.detach().numpy() for name, layer in layers.items()}
