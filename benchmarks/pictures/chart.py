"""Charts: seconds and memory of a comparison as bars, sorted measurements as curves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl

from benchmarks.measure import RESULTS

_OURS, _THEIRS = "#2b6cb0", "#a0aec0"


@contextmanager
def figure(path: Path, width: float, height: float, **axes: Any) -> Iterator[Any]:
    """Axes to draw on, kept as a PNG."""
    mpl.use("agg")
    from matplotlib import pyplot

    canvas, drawn = pyplot.subplots(figsize=(width, height), **axes)
    yield drawn
    for each in canvas.axes:
        each.spines[["top", "right"]].set_visible(False)
    canvas.tight_layout()
    canvas.savefig(path, dpi=120, metadata={"Software": None})
    pyplot.close(canvas)


def bars(part: str, sides: Mapping[str, tuple[float, int]], steps: int) -> None:
    """A bar for each side; `sides` has seconds and bytes by name, slowest drawn first."""
    names = sorted(sides, key=lambda name: sides[name][0])
    colours = [_THEIRS if name.startswith(("diffusers", "torch", "optimum", "genai")) else _OURS for name in names]
    with figure(RESULTS / f"{part}.png", 11, 0.42 * len(names) + 1.2, ncols=2, sharey=True) as (left, right):
        left.set_title(f"an image of {steps} steps, seconds", fontsize=10)
        right.set_title("peak memory, GB", fontsize=10)
        for axes, values in ((left, [sides[n][0] for n in names]), (right, [sides[n][1] / 1e9 for n in names])):
            axes.bar_label(axes.barh(names, values, color=colours), fmt="%.3g", padding=3, fontsize=9)
            axes.margins(x=0.12)


def curves(part: str, title: str, lines: Mapping[str, Sequence[float]], goals: Sequence[float]) -> None:
    """How many took how long; `lines` has milliseconds in ascending order by name, `goals` are horizontal lines."""
    with figure(RESULTS / f"{part}.png", 8, 4) as axes:
        axes.set_title(title, fontsize=10)
        axes.set_yscale("log")
        axes.set_xlabel("percent of the events", fontsize=9)
        axes.set_ylabel("milliseconds", fontsize=9)
        for name, values in lines.items():
            axes.plot([100 * number / (len(values) - 1) for number in range(len(values))], values, label=name)
        for goal in goals:
            axes.axhline(goal, color="#718096", linestyle="--", linewidth=0.8)
            axes.annotate(f"goal {goal:g}", (1, goal), xytext=(0, 3), textcoords="offset points", fontsize=8)
        axes.legend(frameon=False, fontsize=9)
