"""Does crayon draw what it is asked for? Generates from prompts that training never saw, and lets the judge read."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.pipelines.controlnet.pipeline_controlnet import StableDiffusionControlNetPipeline
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm  # type: ignore[import-untyped]

from crayon.judge.judge import Marks, read, score
from crayon.reports import versions, write_json
from crayon.scenes.captions import canonical_caption
from crayon.scenes.dataset import to_pixels, to_unit_range
from crayon.scenes.grammar import Scene, Split, distinct_scenes

# Prompts and one seed for each to uint8 pictures (count, 128, 128, 3): any engine can be judged by this.
Generate = Callable[[Sequence[str], Sequence[int]], NDArray[np.uint8]]

FREE_TEXT = (
    "a photograph of an astronaut riding a horse",
    "",
    "a gray elephant",
    "日本の桜 🌸",
    "two red circles and three green stars, in the style of Mondrian",
)


@dataclass(frozen=True)
class Suite:
    """Prompts of one kind; the goals are the least shares that should come out right."""

    name: str
    split: Split
    pairs: bool
    count: int
    goal_each: float | None
    goal_all: float | None
    seed: int

    def scenes(self) -> list[Scene]:
        """The suite's scenes, all different, the same every time."""
        return distinct_scenes(self.count, self.split, pairs=self.pairs, seed=self.seed)


SUITES = (
    Suite("held-out", Split.HELD_OUT, pairs=False, count=500, goal_each=0.98, goal_all=0.96, seed=501),
    Suite("unseen object-colour", Split.UNSEEN_PAIR, pairs=False, count=200, goal_each=None, goal_all=0.92, seed=502),
    Suite("two objects", Split.HELD_OUT, pairs=True, count=200, goal_each=None, goal_all=0.80, seed=503),
    Suite(
        "two objects, unseen colour", Split.UNSEEN_PAIR, pairs=True, count=100, goal_each=None, goal_all=None, seed=504
    ),
)


@dataclass(frozen=True)
class JudgedPicture:
    """One picture: what was asked, what came, and the judge's marks; `image` is uint8 (128, 128, 3)."""

    suite: str
    prompt: str
    seed: int
    image: NDArray[np.uint8]
    marks: Marks


def diffusers_generate(
    checkpoint: Path,
    steps: int,
    guidance: float,
    batch: int = 16,
    device: str = "cpu",
    controlnet: Path | None = None,
    scale: float = 1.0,
) -> Any:
    """The reference generator: diffusers' pipeline in float32, each picture from its own seed. A `Generate`; with a
    ControlNet it takes one control image for each prompt besides, uint8 (count, 128, 128, 3).
    """
    if controlnet is None:
        pipeline: Any = StableDiffusionPipeline.from_pretrained(checkpoint, dtype=torch.float32)
    else:
        network = ControlNetModel.from_pretrained(controlnet, torch_dtype=torch.float32)
        pipeline = StableDiffusionControlNetPipeline.from_pretrained(
            checkpoint, controlnet=network, dtype=torch.float32
        )
    pipeline = pipeline.to(device)
    pipeline.set_progress_bar_config(disable=True)

    def generate(prompts: Sequence[str], seeds: Sequence[int], *controls: NDArray[np.uint8]) -> NDArray[np.uint8]:
        images: list[NDArray[np.uint8]] = []
        for start in range(0, len(prompts), batch):
            rows = slice(start, start + batch)
            control = {"controlnet_conditioning_scale": scale} if controls else {}
            output = pipeline(
                list(prompts[rows]),
                *((to_unit_range(each[rows]) + 1) / 2 for each in controls),
                num_inference_steps=steps,
                guidance_scale=guidance,
                generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds[rows]],
                output_type="pt",
                **control,
            )
            images.append(to_pixels(output.images * 2 - 1))
        return np.concatenate(images)

    return generate


def judge_suite(suite: Suite, generate: Generate, chunk: int = 16) -> list[JudgedPicture]:
    """Generates and reads every prompt of `suite`."""
    scenes = suite.scenes()
    prompts = [canonical_caption(scene) for scene in scenes]
    seeds = [suite.seed * 10_000 + index for index in range(len(scenes))]
    judged: list[JudgedPicture] = []
    for start in tqdm(range(0, len(scenes), chunk), desc=suite.name, mininterval=10):
        rows = slice(start, start + chunk)
        images = generate(prompts[rows], seeds[rows])
        marks = score(scenes[rows], read(images))
        for row in zip(prompts[rows], seeds[rows], images, marks, strict=True):
            judged.append(JudgedPicture(suite.name, *row))
    return judged


def summary(suite: Suite, judged: Sequence[JudgedPicture]) -> dict[str, Any]:
    """Shares of right pictures by attribute, whether the goals are met, and the prompts that failed."""
    place = "relation" if suite.pairs else "position"
    shares = {
        "object": float(np.mean([one.marks.object for one in judged])),
        "colour": float(np.mean([one.marks.colour for one in judged])),
        "background": float(np.mean([one.marks.background for one in judged])),
        place: float(np.mean([one.marks.place for one in judged])),
    }
    if not suite.pairs:
        shares["size"] = float(np.mean([one.marks.size for one in judged]))
    together = float(np.mean([one.marks.all for one in judged]))
    required = [share for name, share in shares.items() if name != "size"]
    return {
        "prompts": len(judged),
        "shares": {name: round(share, 4) for name, share in shares.items()},
        "all": round(together, 4),
        "goal": {"each": suite.goal_each, "all": suite.goal_all},
        "goal_met": together >= (suite.goal_all or 0) and min(required) >= (suite.goal_each or 0),
        "failed": [
            {"prompt": one.prompt, "seed": one.seed, "marks": asdict(one.marks)} for one in judged if not one.marks.all
        ],
    }


def table(results: dict[str, dict[str, Any]]) -> str:
    """The summaries as lines of text."""
    lines = [f"{'suite':28}{'prompts':>8}{'all':>8}{'goal':>7}  attributes"]
    for name, result in results.items():
        shares = "  ".join(f"{attribute} {share:.3f}" for attribute, share in result["shares"].items())
        goal = result["goal"]["all"] or "none"
        lines.append(f"{name:28}{result['prompts']:>8}{result['all']:>8.3f}{goal:>7}  {shares}")
    return "\n".join(lines)


def contact_sheet(judged: Sequence[JudgedPicture], path: Path, columns: int = 8, tile: int = 128) -> None:
    """Writes the pictures as one PNG; a failed one has a red edge."""
    rows = -(-len(judged) // columns)
    sheet = Image.new("RGB", (columns * tile, rows * tile), (255, 255, 255))
    for index, one in enumerate(judged):
        picture = one.image.copy()
        if not one.marks.all:
            picture[:3] = picture[-3:] = picture[:, :3] = picture[:, -3:] = (255, 0, 0)
        scaled = Image.fromarray(picture).resize((tile, tile), Image.Resampling.LANCZOS)
        sheet.paste(scaled, (index % columns * tile, index // columns * tile))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, optimize=True)


def evaluate(
    generate: Generate,
    settings: dict[str, Any],
    report: Path | None = None,
    sheet: Path | None = None,
    failures: Path | None = None,
    limit: int | None = None,
) -> dict[str, dict[str, Any]]:
    """Judges every suite (at most `limit` prompts of each) and writes what is asked for.

    `report` is JSON; `sheet` shows the first eight pictures of each suite, `failures` the first 96 that failed.
    """
    started = time.perf_counter()
    results: dict[str, dict[str, Any]] = {}
    shown: list[JudgedPicture] = []
    failed: list[JudgedPicture] = []
    for suite in SUITES:
        if limit is not None:
            suite = Suite(**{**asdict(suite), "count": min(limit, suite.count)})
        judged = judge_suite(suite, generate)
        results[suite.name] = summary(suite, judged)
        shown += judged[:8]
        failed += [one for one in judged if not one.marks.all]
    free = generate(FREE_TEXT, range(len(FREE_TEXT)))
    if report is not None:
        content = {
            "settings": settings,
            "suites": results,
            "suite_seeds": {suite.name: suite.seed for suite in SUITES},
            "free_text": {"prompts": list(FREE_TEXT), "contrast": [round(float(image.std()), 2) for image in free]},
            "seconds": round(time.perf_counter() - started, 1),
            "versions": versions("torch", "diffusers", "transformers", "numpy"),
        }
        write_json(report, content)
    if sheet is not None:
        contact_sheet(shown, sheet, tile=96)
    if failures is not None and failed:
        contact_sheet(failed[:96], failures)
    return results
