"""The README's picture: images as the runtime makes them, each above its prompt."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from benchmarks.measure import ROOT
from benchmarks.subjects.engine import InProcess

PICTURE = ROOT / "docs" / "images" / "crayon.png"
PROMPTS = (
    "a large red heart on a blue background",
    "a small green tree on the left at night",
    "a large teal fish on a yellow background",
    "a pink house to the left of a green tree on a gray background",
    "a large purple mushroom on a green background",
    "a white boat above a blue fish on a red background",
    "a large yellow star at night",
    "an orange flower below a black circle on a blue background",
)
_TILE, _GAP, _CAPTION, _COLUMNS = 192, 12, 46, 4
_PAPER, _INK = (255, 255, 255), (70, 70, 70)


def draw(engine: InProcess) -> None:
    """One image a prompt, seed 1, 25 steps: no picture is chosen among several."""
    compose(PROMPTS, engine.generate(PROMPTS, [1] * len(PROMPTS)), PICTURE, _COLUMNS)


def compose(captions: Sequence[str], pictures: Iterable[NDArray[np.uint8]], path: Path, columns: int) -> None:
    """Pictures, uint8 [H, W, 3], each above its caption, as one PNG."""
    rows = -(-len(captions) // columns)
    size = (columns * (_TILE + _GAP) + _GAP, rows * (_TILE + _CAPTION + _GAP) + _GAP)
    sheet = Image.new("RGB", size, _PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for index, (caption, picture) in enumerate(zip(captions, pictures, strict=True)):
        left = _GAP + index % columns * (_TILE + _GAP)
        top = _GAP + index // columns * (_TILE + _CAPTION + _GAP)
        sheet.paste(Image.fromarray(picture).resize((_TILE, _TILE), Image.Resampling.LANCZOS), (left, top))
        pen.multiline_text((left, top + _TILE + 5), textwrap.fill(caption, 30), fill=_INK, font=font, spacing=2)
    sheet.save(path, optimize=True)
