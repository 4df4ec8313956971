"""The picture of a comparison: seconds of an image and peak memory, a bar for each side."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib as mpl

from benchmarks.measure import RESULTS

_OURS, _THEIRS = "#2b6cb0", "#a0aec0"


def draw(part: str, sides: Mapping[str, tuple[float, int]], steps: int) -> None:
    """Write benchmarks/results/{part}.png; `sides` has seconds and bytes by name, slowest drawn first."""
    mpl.use("agg")
    from matplotlib import pyplot

    names = sorted(sides, key=lambda name: sides[name][0])
    colours = [_THEIRS if name.startswith(("diffusers", "torch", "optimum", "genai")) else _OURS for name in names]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 0.42 * len(names) + 1.2), sharey=True)
    left.set_title(f"an image of {steps} steps, seconds", fontsize=10)
    right.set_title("peak memory, GB", fontsize=10)
    for axes, values in ((left, [sides[n][0] for n in names]), (right, [sides[n][1] / 1e9 for n in names])):
        axes.bar_label(axes.barh(names, values, color=colours), fmt="%.3g", padding=3, fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0.12)
    figure.tight_layout()
    figure.savefig(RESULTS / f"{part}.png", dpi=120, metadata={"Software": None})
    pyplot.close(figure)
