"""How alike must two prompts be for one to enter the other's image at a step? Measured on the engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_build.cache.criterion import Criterion
from model_build.cache.engine import Floats, StepEngine
from model_build.cache.prompt_map import code

# Where images may enter, as shares of the steps; what lies between is treated as the next deeper one.
DEPTHS = (0.2, 0.32, 0.44, 0.52, 0.6, 0.64, 0.68, 0.72, 0.76, 0.8)
_LEVELS_EACH = 3  # how many of them each pair of prompts is tried at
_NEAREST = 1e-3  # of the random distance: below it, prompts count as the same
_LEAST_SLOPE = 0.05
_ORDINARY = 0.95  # of other seeds' images of the same prompt move no further


@dataclass(frozen=True)
class Effort:
    """How much to measure."""

    prompts: int = 4000
    pairs: int = 640


@dataclass(frozen=True)
class Trials:
    """One image that entered at depth number `level` from a prompt at squared distance `distance`.

    `wrong` says that it is, and that the same prompt's and seed's image without the cache is not. `moved` is the mean
    absolute difference, in pixel values of 0 to 255, to that image.
    """

    level: NDArray[np.int64]
    distance: Floats
    wrong: NDArray[np.bool_]
    moved: Floats


def shifted(weights: dict[str, Floats], code: Floats, code_before: Floats, latents: Floats) -> Floats:
    """Another prompt's final latents, moved by the difference between the two prompts' mean images."""
    moved = (code - code_before) @ weights["image_basis"].astype(np.float32)
    return (latents + moved.reshape(latents.shape)).astype(np.float32)


def measure(
    engine: StepEngine,
    criterion: Criterion,
    weights: dict[str, Floats],
    steps: Sequence[int],
    effort: Effort,
    advance: Callable[[], None],
) -> tuple[Trials, float]:
    """Try every pair at some of the steps; also the share of images that is wrong without a cache."""
    pairs = criterion.pairs(effort.pairs, seed=1)
    before, prompts = [pair.before for pair in pairs], [pair.prompt for pair in pairs]
    seeds = range(1, 2 * len(pairs), 2)
    donors, others = engine.draw(before, [seed - 1 for seed in seeds], advance=advance)
    _, unaided = engine.draw(prompts, seeds, advance=advance)
    same = [n for n, pair in enumerate(pairs) if pair.before == pair.prompt]
    ordinary = float(np.quantile(_moved(others[same], unaided[same]), _ORDINARY)) if same else 0.0
    failing = criterion.wrong(prompts, unaided, np.zeros(len(pairs), np.float32), ordinary)
    codes = [code(weights, engine.embeds(batch).reshape(len(pairs), -1)) for batch in (prompts, before)]
    apart = (codes[0] - codes[1]) * weights["metric"].astype(np.float32)
    distances = np.einsum("nr,nr->n", apart, apart)
    levels, chosen, wrong, moved = [], [], [], []
    for level, step in enumerate(steps):
        tried = [n for n in range(len(pairs)) if (n * 7 + level) % len(steps) < _LEVELS_EACH]
        if not tried:
            continue
        images = [shifted(weights, codes[0][n], codes[1][n], donors[n]) for n in tried]
        batch = [prompts[n] for n in tried]
        _, entered = engine.draw(batch, [seeds[n] for n in tried], step, images, advance=advance)
        moves = _moved(entered, unaided[tried])
        levels.append(np.full(len(tried), level))
        chosen.append(tried)
        wrong.append(criterion.wrong(batch, entered, moves, ordinary) & ~failing[tried])
        moved.append(moves)
    each_distance = distances[np.concatenate(chosen)].astype(np.float32)
    return Trials(np.concatenate(levels), each_distance, np.concatenate(wrong), np.concatenate(moved)), float(
        failing.mean()
    )


def _moved(images: NDArray[np.uint8], others: NDArray[np.uint8]) -> Floats:
    """Mean absolute difference of each pair, float32 [n]."""
    apart = np.abs(images.astype(np.int16) - others.astype(np.int16))
    moved: Floats = apart.reshape(len(apart), -1).mean(1).astype(np.float32)
    return moved


def draws(effort: Effort, steps: int) -> int:
    """How many images `measure` makes."""
    tried = ((n * 7 + level) % steps < _LEVELS_EACH for level in range(steps) for n in range(effort.pairs))
    return 2 * effort.pairs + sum(tried)


def fit(trials: Trials, clarity: Floats, random_distance: float, ridge: float = 1e-3) -> tuple[float, Floats]:
    """(slope, intercepts by level): P(wrong) = 1 / (1 + exp(-(intercept + slope * log distance))).

    `clarity`, float32 [levels], is log(signal / noise) where a level enters, rising with depth; the intercept is linear
    in it. So failures, which are rare, are counted over all levels together, and no level is believed safe because none
    was seen there. Neither coefficient is negative. Half a failure and half a success are added at the deepest level's
    mean distance: no failure seen at all does not mean none to come. Newton's method on the penalised likelihood.
    """
    logs = np.log(np.maximum(trials.distance, _NEAREST * random_distance))
    deepest = logs[trials.level == trials.level.max()].mean()
    logs = np.concatenate([logs, [deepest, deepest]])
    clear = clarity[np.concatenate([trials.level, [trials.level.max()] * 2])]
    wrong = np.concatenate([trials.wrong.astype(float), [1.0, 0.0]])
    weight = np.concatenate([np.ones(len(trials.level)), [0.5, 0.5]])
    design = np.stack([np.ones_like(logs), logs, clear], 1)
    coefficients = np.array([0.0, 1.0, 1.0])
    for _ in range(100):
        rate = 1 / (1 + np.exp(-np.clip(design @ coefficients, -30, 30)))
        slope = design.T @ (weight * (wrong - rate)) - ridge * coefficients
        bend = (design * (weight * rate * (1 - rate))[:, None]).T @ design + ridge * np.eye(3)
        coefficients = coefficients + np.clip(np.linalg.solve(bend, slope), -1, 1)
        coefficients[1:] = np.maximum(coefficients[1:], _LEAST_SLOPE)
    return float(coefficients[1]), (coefficients[0] + coefficients[2] * clarity).astype(np.float32)


def measured(trials: Trials, steps: Sequence[int], total: int) -> list[dict[str, Any]]:
    """What was measured, by depth and quarter of the distances: how far images move, how often they are wrong."""
    edges = np.quantile(trials.distance, [0, 0.25, 0.5, 0.75, 1])
    rows = []
    for level, step in enumerate(steps):
        for quarter in range(4):
            inside = (trials.level == level) & (trials.distance >= edges[quarter])
            inside &= trials.distance <= edges[quarter + 1]
            if inside.any():
                rows.append(
                    {
                        "share_skipped": round(step / total, 3),
                        "distance": [round(float(edge), 3) for edge in edges[quarter : quarter + 2]],
                        "images": int(inside.sum()),
                        "wrong": round(float(trials.wrong[inside].mean()), 4),
                        "moved": round(float(trials.moved[inside].mean()), 2),
                    }
                )
    return rows
