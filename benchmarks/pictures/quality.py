"""What speed costs: crayon in every precision and with tokens merged, as the judge reads it, beside its speed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from benchmarks.measure import RESULTS, Row, interleaved, judged, keep, medians
from benchmarks.pictures import page
from benchmarks.subjects import bundles
from benchmarks.subjects.engine import CHECKPOINT, InProcess
from crayon.judge.evaluate import SUITES, JudgedPicture, Suite, judge_suite, summary

COMMAND = "make bench PART=quality"
WORK = Path(".darkroom") / "bench" / "quality"
_row = partial(judged, "quality", COMMAND)
_SUITE = SUITES[0]  # 500 prompts that training never saw
_PROMPT = "a large red heart on a blue background"
_STEPS, _ROUNDS, _CHUNK = 25, 9, 20
_BRIEFLY = ("--guidance", "4", "--verify-steps", "4", "--repeats", "0")
_CAPTION = f"""What speed costs: crayon, {_SUITE.count} prompts held out from training, {_STEPS} steps, read back by the
judge (`{COMMAND}` writes the table, and the picture of the first prompts)."""
_PICTURES = "![The same prompts in every precision and merging](../benchmarks/results/quality.png)"
_TILE, _GAP, _LABEL, _COLUMNS = 128, 8, 190, 8
_PAPER, _INK = (255, 255, 255), (70, 70, 70)


@dataclass(frozen=True)
class Variant:
    """A target and the share of tokens it merges; it may lose `allowed` of each attribute's share against fp32."""

    precision: str
    merged: float = 0.0
    allowed: float | None = None

    def __str__(self) -> str:
        return f"{self.precision} + token merging {self.merged:g}" if self.merged else self.precision

    @property
    def model(self) -> str:
        return f"crayon-merged-{100 * self.merged:.0f}" if self.merged else "crayon"


FP32 = Variant("fp32")
VARIANTS = (
    FP32,
    Variant("bf16"),
    Variant("int8", allowed=0.01),
    Variant("int8", 0.2),
    Variant("int8", 0.4, allowed=0.02),
    Variant("int8", 0.6),
)


@dataclass(frozen=True)
class Read:
    """A variant's shares of right pictures by attribute, and its pictures, uint8 [n, 128, 128, 3]."""

    shares: Mapping[str, float]
    pictures: NDArray[np.uint8]

    @classmethod
    def of(cls, suite: Suite, judged: Sequence[JudgedPicture]) -> Read:
        result = summary(suite, judged)
        return cls({**result["shares"], "all": result["all"]}, np.stack([one.image for one in judged]))


def run(quick: bool = False) -> None:
    """Build what is missing, measure, print and keep everything of this part; `quick` tries it with few pictures and
    keeps nothing but the bundles.
    """
    suite = replace(_SUITE, count=2 * _CHUNK) if quick else _SUITE
    engines = {
        variant: InProcess(f"openvino-{variant.precision}", 2, _store(variant), variant.model) for variant in VARIANTS
    }
    print("one image, in turns")
    sides = {str(variant): partial(engine.generate, [_PROMPT], [1], _STEPS) for variant, engine in engines.items()}
    seconds = {
        name: timing.wall for name, timing in medians(interleaved(sides, rounds=1 if quick else _ROUNDS)).items()
    }
    reads = {}
    for variant, engine in engines.items():
        print(f"{variant}, read by the judge")
        reads[variant] = Read.of(suite, judge_suite(suite, engine.generate, _CHUNK))
    agreements = {
        variant: psnr(read.pictures, reads[FP32].pictures) for variant, read in reads.items() if variant != FP32
    }
    if quick:
        print(table(reads, seconds, agreements))
        return
    _draw(reads)
    page.write("quality", passage(reads, seconds, agreements))
    raw = {str(variant): {"shares": read.shares, "psnr": agreements.get(variant)} for variant, read in reads.items()}
    keep("quality", list(rows(reads, seconds, agreements)), {"seconds": seconds, "settings": raw})


def _store(variant: Variant) -> Path:
    WORK.mkdir(parents=True, exist_ok=True)
    if not variant.merged:
        return bundles.build(CHECKPOINT, WORK, variant.model, [*bundles.targets("int8", "bf16", "fp32"), *_BRIEFLY])
    options = [*bundles.targets("int8"), "--token-merging", f"{variant.merged:g}"]
    return bundles.build(CHECKPOINT, WORK, variant.model, [*options, *_BRIEFLY], like=FP32.model)


def psnr(pictures: NDArray[np.uint8], wanted: NDArray[np.uint8]) -> float:
    """Mean over pictures of the peak signal-to-noise ratio, in dB; 99 for a picture without any difference."""
    errors = np.mean((pictures.astype(np.float64) - wanted) ** 2, axis=(1, 2, 3))
    with np.errstate(divide="ignore"):
        return round(float(np.mean(np.minimum(10 * np.log10(255**2 / errors), 99.0))), 1)


def losses(read: Read, against: Read) -> dict[str, float]:
    """What each attribute's share has lost; below zero where it has gained."""
    return {name: round(against.shares[name] - share, 4) for name, share in read.shares.items() if name != "all"}


def rows(
    reads: Mapping[Variant, Read], seconds: Mapping[str, float], agreements: Mapping[Variant, float]
) -> Iterator[Row]:
    for variant, read in reads.items():
        if variant != FP32:
            lost = losses(read, reads[FP32])
            worst = max(lost, key=lambda name: lost[name])
            metric = f"crayon, most that an attribute loses against fp32, {variant} ({worst})"
            yield _row(metric, lost[worst], "share", at_most=variant.allowed, digits=4)
            yield _row(f"crayon, agreement with fp32, {variant}", agreements[variant], "dB")
        yield _row(f"crayon, all right, {variant}", read.shares["all"], "share", digits=4)
        yield _row(f"crayon, one image, {variant}", seconds[str(variant)], "s", digits=4)


def passage(reads: Mapping[Variant, Read], seconds: Mapping[str, float], agreements: Mapping[Variant, float]) -> str:
    """Markdown: what it is, the table, the picture."""
    return f"{_CAPTION}\n\n{table(reads, seconds, agreements)}\n{_PICTURES}"


def table(reads: Mapping[Variant, Read], seconds: Mapping[str, float], agreements: Mapping[Variant, float]) -> str:
    """Markdown: a line for each variant."""
    attributes = list(reads[FP32].shares)
    head = ["", "seconds an image", "PSNR against fp32, dB", *attributes]
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    for variant, read in reads.items():
        agreement = f"{agreements[variant]:.1f}" if variant in agreements else ""
        shares = [f"{100 * read.shares[name]:.1f} %" for name in attributes]
        lines.append([str(variant), f"{seconds[str(variant)]:.3f}", agreement, *shares])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _draw(reads: Mapping[Variant, Read]) -> None:
    """The first prompts' pictures, a line for each variant: benchmarks/results/quality.png."""
    size = (_LABEL + _COLUMNS * (_TILE + _GAP), len(reads) * (_TILE + _GAP))
    sheet = Image.new("RGB", size, _PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for line, (variant, read) in enumerate(reads.items()):
        top = line * (_TILE + _GAP)
        pen.text((8, top + _TILE // 2), str(variant), fill=_INK, font=font)
        for column, picture in enumerate(read.pictures[:_COLUMNS]):
            sheet.paste(Image.fromarray(picture), (_LABEL + column * (_TILE + _GAP), top))
    sheet.save(RESULTS / "quality.png", optimize=True)
