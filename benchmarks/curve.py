"""A picture of sorted measurements: how many of them took how long."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl

from benchmarks.measure import RESULTS


def draw(part: str, title: str, curves: Mapping[str, Sequence[float]], goals: Sequence[float]) -> None:
    """Write benchmarks/results/{part}.png; `curves` has milliseconds in ascending order by name, `goals` are lines."""
    mpl.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4))
    axes.set_title(title, fontsize=10)
    axes.set_yscale("log")
    axes.set_xlabel("percent of the events", fontsize=9)
    axes.set_ylabel("milliseconds", fontsize=9)
    for name, values in curves.items():
        axes.plot([100 * number / (len(values) - 1) for number in range(len(values))], values, label=name)
    for goal in goals:
        axes.axhline(goal, color="#718096", linestyle="--", linewidth=0.8)
        axes.annotate(f"goal {goal:g}", (1, goal), xytext=(0, 3), textcoords="offset points", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    figure.tight_layout()
    figure.savefig(RESULTS / f"{part}.png", dpi=120, metadata={"Software": None})
    pyplot.close(figure)
