"""Does the ControlNet keep an edge map's edges while the prompt still decides colour and background?"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm  # type: ignore[import-untyped]

from crayon.judge.evaluate import Generate
from crayon.judge.judge import Marks, read, score
from crayon.reports import versions, write_json
from crayon.scenes.control_suites import CONTROL_SUITES, ControlCase, ControlSuite, PromptChange
from crayon.scenes.edges import HIGH_THRESHOLD, LOW_THRESHOLD, TOLERANCE, canny, control_image, edge_agreement

# Prompts, one seed and one control image for each, uint8 (count, 128, 128, 3), to pictures of the same form.
ControlGenerate = Callable[[Sequence[str], Sequence[int], NDArray[np.uint8]], NDArray[np.uint8]]


@dataclass(frozen=True)
class ControlledPicture:
    """One pair and its picture, uint8 (128, 128, 3): its edges' agreement with the map, and the judge's marks."""

    case: ControlCase
    image: NDArray[np.uint8]
    agreement: float
    marks: Marks

    @property
    def obeyed(self) -> bool:
        """Whether colour and background are the prompt's."""
        return self.marks.colour and self.marks.background


def judge_controlled(cases: Sequence[ControlCase], images: NDArray[np.uint8]) -> list[ControlledPicture]:
    """Compares pictures, uint8 (count, 128, 128, 3), with the edge map and the prompt of each case."""
    marks = score([case.wanted for case in cases], read(images))
    return [
        ControlledPicture(case, image, edge_agreement(case.edges, canny(image)), mark)
        for case, image, mark in zip(cases, images, marks, strict=True)
    ]


def _shares(results: Sequence[ControlledPicture]) -> dict[str, float]:
    shares = {
        "edge_f1": np.mean([one.agreement for one in results]),
        "colour": np.mean([one.marks.colour for one in results]),
        "background": np.mean([one.marks.background for one in results]),
        "colour_and_background": np.mean([one.obeyed for one in results]),
        "object_of_the_edges": np.mean([one.marks.object for one in results]),
    }
    return {name: round(float(value), 4) for name, value in shares.items()}


def control_summary(
    suite: ControlSuite, controlled: Sequence[ControlledPicture], free: Sequence[ControlledPicture]
) -> dict[str, Any]:
    """Figures with control and, from the same prompts and seeds, without it; and whether the goals are met."""
    measured, baseline = _shares(controlled), _shares(free)
    ratio = measured["edge_f1"] / baseline["edge_f1"] if baseline["edge_f1"] else float("inf")
    goals = {
        "edge_f1": (suite.goal_agreement, measured["edge_f1"]),
        "edge_f1_ratio": (suite.goal_ratio, ratio),
        "colour_and_background": (suite.goal_obeyed, measured["colour_and_background"]),
    }
    set_goals = [(goal, reached) for goal, reached in goals.values() if goal is not None]
    return {
        "pairs": len(controlled),
        "with_control": measured,
        "without_control": baseline,
        "edge_f1_ratio": round(ratio, 3),
        "by_change": {
            change.value: {
                "with_control": _shares([one for one in controlled if one.case.change is change]),
                "without_control": _shares([one for one in free if one.case.change is change]),
            }
            for change in PromptChange
            if any(one.case.change is change for one in controlled)
        },
        "goal": {name: goal for name, (goal, _) in goals.items()},
        "goal_met": all(reached >= goal for goal, reached in set_goals) if set_goals else None,
        "disobeyed": [
            {"prompt": one.case.prompt, "seed": one.case.seed, "edge_f1": round(one.agreement, 3)}
            for one in controlled
            if not one.obeyed
        ],
    }


def control_table(results: dict[str, dict[str, Any]]) -> str:
    """The summaries as lines of text."""
    lines = [f"{'suite':38}{'pairs':>6}{'F1':>8}{'without':>9}{'ratio':>7}{'colour+background':>19}{'object':>8}"]
    for name, result in results.items():
        with_control, without = result["with_control"], result["without_control"]
        lines.append(
            f"{name:38}{result['pairs']:>6}{with_control['edge_f1']:>8.3f}{without['edge_f1']:>9.3f}"
            f"{result['edge_f1_ratio']:>7.2f}{with_control['colour_and_background']:>19.3f}"
            f"{with_control['object_of_the_edges']:>8.3f}"
        )
    return "\n".join(lines)


def control_sheet(
    controlled: Sequence[ControlledPicture], free: Sequence[ControlledPicture], path: Path, columns: int = 3
) -> None:
    """Writes source, edges, picture with control and without, side by side, `columns` cases in a row, as one PNG.

    The picture of a case whose colour or background is wrong has a red edge.
    """
    strips: list[NDArray[np.uint8]] = []
    for with_control, without in zip(controlled, free, strict=True):
        picture = with_control.image.copy()
        if not with_control.obeyed:
            picture[:3] = picture[-3:] = picture[:, :3] = picture[:, -3:] = (255, 0, 0)
        case = with_control.case
        strips.append(np.concatenate([case.source, control_image(case.edges), picture, without.image], axis=1))
    strips += [np.full_like(strips[0], 255)] * (-len(strips) % columns)
    rows = [np.concatenate(strips[start : start + columns], axis=1) for start in range(0, len(strips), columns)]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows)).save(path, optimize=True)


def evaluate_control(
    generate: ControlGenerate,
    generate_free: Generate,
    settings: dict[str, Any],
    report: Path | None = None,
    sheet: Path | None = None,
    limit: int | None = None,
    chunk: int = 16,
) -> dict[str, dict[str, Any]]:
    """Judges every suite (at most `limit` pairs of each), with control and without; writes what is asked for."""
    started = time.perf_counter()
    results: dict[str, dict[str, Any]] = {}
    shown: tuple[list[ControlledPicture], list[ControlledPicture]] = ([], [])
    for suite in CONTROL_SUITES:
        controlled: list[ControlledPicture] = []
        free: list[ControlledPicture] = []
        cases = suite.cases(limit)
        for start in tqdm(range(0, len(cases), chunk), desc=suite.name, mininterval=10):
            part = cases[start : start + chunk]
            prompts, seeds = [case.prompt for case in part], [case.seed for case in part]
            controls = np.stack([control_image(case.edges) for case in part])
            controlled += judge_controlled(part, generate(prompts, seeds, controls))
            free += judge_controlled(part, generate_free(prompts, seeds))
        results[suite.name] = control_summary(suite, controlled, free)
        shown[0].extend(controlled[:12])
        shown[1].extend(free[:12])
    if report is not None:
        content = {
            "settings": {**settings, "canny": [LOW_THRESHOLD, HIGH_THRESHOLD], "tolerance_pixels": TOLERANCE},
            "suites": results,
            "suite_seeds": {suite.name: suite.seed for suite in CONTROL_SUITES},
            "seconds": round(time.perf_counter() - started, 1),
            "versions": versions("torch", "diffusers", "transformers", "numpy", "opencv-python-headless"),
        }
        write_json(report, content)
    if sheet is not None:
        control_sheet(*shown, sheet)
    return results
