"""The picture of savings against quality, one curve a policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from benchmarks.measure import RESULTS
from benchmarks.pictures.chart import figure

_COLOURS = {"nirvana": "#c05621", "lru": "#a0aec0", "darkroom": "#2b6cb0"}
GOAL_SAVED, GOAL_QUALITY = 0.27, 0.99


@dataclass(frozen=True)
class Point:
    """Share of UNet rows saved; images all right as a share of uncached, and half of its 95 % confidence interval."""

    saved: float
    quality: float
    margin: float = 0.0


def draw(curves: Mapping[str, Sequence[Point]], path: Path = RESULTS / "cache.png") -> None:
    """Quality upwards, savings to the right; where both goals are met is shaded."""
    with figure(path, 7, 4.4) as axes:
        for name, curve in curves.items():
            ordered = sorted(curve, key=lambda point: point.saved)
            saved, quality = [point.saved for point in ordered], [point.quality for point in ordered]
            margins = [point.margin for point in ordered]
            axes.errorbar(saved, quality, margins, fmt="o-", capsize=3, color=_COLOURS[name], label=name)
        right, top = max(axes.get_xlim()[1], 0.5), max(axes.get_ylim()[1], 1.01)
        axes.fill_between([GOAL_SAVED, right], GOAL_QUALITY, top, color="#c6f6d5", alpha=0.5, label="the goals")
        axes.set(xlim=(0, right), ylim=(axes.get_ylim()[0], top))
        axes.set(xlabel="share of UNet rows saved", ylabel="all four attributes right / uncached")
        axes.legend(frameon=False)


def at_quality(curve: Sequence[Point]) -> float:
    """The most that a policy saves at the quality asked for, along straight lines between its points and from the
    uncached image, which saves nothing and loses nothing.
    """
    ordered = [Point(0.0, 1.0), *sorted(curve, key=lambda point: point.saved)]
    most = 0.0
    for one, next_ in pairwise(ordered):
        if next_.quality >= GOAL_QUALITY:
            most = next_.saved
        elif one.quality >= GOAL_QUALITY:
            share = (one.quality - GOAL_QUALITY) / (one.quality - next_.quality)
            most = one.saved + share * (next_.saved - one.saved)
    return most
