"""The picture of savings against quality, one curve a policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl

from benchmarks.measure import RESULTS

_COLOURS = {"nirvana": "#c05621", "lru": "#a0aec0", "darkroom": "#2b6cb0"}
GOAL_SAVED, GOAL_QUALITY = 0.27, 0.99


@dataclass(frozen=True)
class Point:
    """Share of UNet rows saved, and images all right as a share of uncached."""

    saved: float
    quality: float


def draw(curves: Mapping[str, Sequence[Point]], path: Path = RESULTS / "cache.png") -> None:
    """Quality upwards, savings to the right; where both goals are met is shaded."""
    mpl.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.4))
    for name, curve in curves.items():
        ordered = sorted(curve, key=lambda point: point.saved)
        saved, quality = [point.saved for point in ordered], [point.quality for point in ordered]
        axes.plot(saved, quality, "o-", color=_COLOURS[name], label=name)
    right, top = max(axes.get_xlim()[1], 0.5), max(axes.get_ylim()[1], 1.01)
    axes.fill_between([GOAL_SAVED, right], GOAL_QUALITY, top, color="#c6f6d5", alpha=0.5, label="the goals")
    axes.set(xlim=(0, right), ylim=(axes.get_ylim()[0], top))
    axes.set(xlabel="share of UNet rows saved", ylabel="all four attributes right / uncached")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=120, metadata={"Software": None})
    pyplot.close(figure)


def at_quality(curve: Sequence[Point]) -> float:
    """The most that a policy saves among its points of the quality asked for; 0 where there is none."""
    return max((point.saved for point in curve if point.quality >= GOAL_QUALITY), default=0.0)
