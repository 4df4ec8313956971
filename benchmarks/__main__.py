"""`python -m benchmarks PART`: measure one part, or all, and print its rows."""

from __future__ import annotations

import importlib
import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.measure import RESULTS

PARTS = {
    "api": "api",
    "arrivals": "serving.arrivals",
    "cache": "cache.comparison",
    "controlnet": "engines.controlnet",
    "cpu": "engines.cpu",
    "crayon": "engines.crayon",
    "image": "sizes.image",
    "image_inputs": "pictures.image_inputs",
    "quality": "pictures.quality",
    "start": "engines.start",
}
ELSEWHERE = {"gpu": "engines.gpu"}  # run by name only, on a machine that has one
QUICK = ("arrivals", "cache", "quality")


def main(
    part: Annotated[str, typer.Argument(help=f"one of {', '.join((*PARTS, *ELSEWHERE))}, or all")] = "all",
    quick: Annotated[bool, typer.Option(help=f"{', '.join(QUICK)}: with few images; keeps no result")] = False,
) -> None:
    """Results go to benchmarks/results: raw runs as {part}.json, all rows in summary.json."""
    if part not in (*PARTS, *ELSEWHERE, "all"):
        known = ", ".join((*PARTS, *ELSEWHERE))
        raise typer.BadParameter(f"there is no part {part!r}; use one of {known}, or all")
    if quick and part not in QUICK:
        raise typer.BadParameter(f"--quick is for {', '.join(QUICK)}")
    chosen = tuple(PARTS) if part == "all" else (part,)
    for name in chosen:
        importlib.import_module(f"benchmarks.{(PARTS | ELSEWHERE)[name]}").run(**({"quick": True} if quick else {}))
    if not quick:
        _show(chosen)


def _show(parts: tuple[str, ...]) -> None:
    rows = [row for row in json.loads((RESULTS / "summary.json").read_text()) if row["part"] in parts]
    table = Table("part", "metric", "goal", "measured", "met")
    for row in rows:
        met = {None: "", True: "yes", False: "NO"}[row["met"]]
        table.add_row(row["part"], row["metric"], row["goal"] or "", f"{row['measured']} {row['unit']}", met)
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
