"""Requests that bring an image: the pictures of docs/requests.md, and how far from its input each strength leads."""

from __future__ import annotations

import base64
import io
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from benchmarks.measure import RESULTS, ROOT, Row, keep
from benchmarks.pictures import sheet
from benchmarks.subjects.served import ServedBundle
from crayon.scenes.captions import canonical_caption
from crayon.scenes.drawing import draw
from crayon.scenes.grammar import (
    Background,
    Colour,
    Position,
    Shape,
    SingleScene,
    Size,
    Split,
    Subject,
    distinct_scenes,
)
from darkroom.contracts import GenerationRequest

COMMAND = "make bench PART=image_inputs"
TARGET = "openvino-bf16"
PICTURES = ROOT / "docs" / "images"
STRENGTHS = (0.2, 0.4, 0.6, 0.8, 1.0)
CASES = 50
REACH = 4  # pixels around the mask in which an inpainted picture fades into the old one
STAR = SingleScene(Subject(Shape.STAR, Colour.RED), Size.LARGE, Position.CENTRE, Background.GRAY)
STAR_PROMPT = "a large purple star on a yellow background"
AGAIN_PROMPT = "a large blue star on a red background"
HEART_PROMPT = "a large green heart on a gray background"
_SHOWN = 6  # pairs in the sweep's picture

Pixels = NDArray[np.uint8]


def run() -> None:
    """Measure, draw and keep everything of this part."""
    served = ServedBundle(TARGET)
    try:
        illustrate(served, PICTURES)
        raw: dict[str, Any] = {}
        keep("image_inputs", [*_sweep(served, raw), _inpainting(served)], raw)
    finally:
        served.close()


def disc(radius: int, side: int = 128) -> Pixels:
    """A mask, uint8 [side, side], white within `radius` pixels of the centre."""
    mask = Image.new("L", (side, side))
    ImageDraw.Draw(mask).circle((side / 2, side / 2), radius, fill=255)
    return np.asarray(mask)


def data_uri(image: Pixels) -> str:
    return f"data:image/png;base64,{base64.b64encode(_png(image)).decode()}"


def illustrate(served: ServedBundle, folder: Path) -> None:
    """That page's input, its mask, and what its three requests make of them, seed 1: nothing is chosen."""
    star, mask = draw(STAR, random.Random(7)), disc(52)
    (folder / "star.png").write_bytes(_png(star))
    (folder / "star-mask.png").write_bytes(_png(mask))
    image = data_uri(star)
    kept, redrawn, repaired = served.draw(
        [
            GenerationRequest(prompt=STAR_PROMPT, image=image, seed=1),
            GenerationRequest(prompt=AGAIN_PROMPT, image=image, strength=0.5, seed=1),
            GenerationRequest(prompt=HEART_PROMPT, image=image, mask=data_uri(mask), seed=1),
        ]
    )
    if kept.control is None:
        raise ValueError("the bundle has no ControlNet")
    captions = ("image", "its edges", STAR_PROMPT, f"{AGAIN_PROMPT}, strength 0.5", f"{HEART_PROMPT}, in the mask")
    pictures = (star, kept.control, kept.image, redrawn.image, repaired.image)
    sheet.compose(captions, pictures, folder / "image-inputs.png", len(captions))


def cases(count: int) -> list[tuple[Pixels, str]]:
    """Drawings, uint8 [128, 128, 3], each with the prompt of another scene; neither was trained on."""
    scenes = distinct_scenes(2 * count, Split.HELD_OUT, pairs=False, seed=77)
    rng = random.Random(77)
    drawings = [draw(scene, rng) for scene in scenes[:count]]
    return list(zip(drawings, map(canonical_caption, scenes[count:]), strict=True))


def distance(image: Pixels, output: Pixels) -> float:
    """Mean difference of a channel of a pixel, of 255."""
    return float(np.abs(image.astype(int) - output).mean())


def _sweep(served: ServedBundle, raw: dict[str, Any]) -> Iterator[Row]:
    """Image-to-image of every pair, seed 1, at each strength."""
    print(f"image-to-image, {CASES} pairs of a drawing and a prompt for another")
    pairs = cases(CASES)
    inputs = [(data_uri(image), prompt) for image, prompt in pairs]
    outputs = []
    for strength in STRENGTHS:
        requests = [GenerationRequest(prompt=text, image=uri, strength=strength, seed=1) for uri, text in inputs]
        outputs.append([drawn.image for drawn in served.draw(requests)])
    distances = [[distance(pair[0], one) for pair, one in zip(pairs, ones, strict=True)] for ones in outputs]
    raw["distance"] = {
        str(strength): [round(one, 2) for one in ones] for strength, ones in zip(STRENGTHS, distances, strict=True)
    }
    raw["prompts"] = [prompt for _, prompt in pairs]
    before: float | None = None
    for strength, ones in zip(STRENGTHS, distances, strict=True):
        mean = float(np.mean(ones))
        goal, met = (None, None) if before is None else (f"> {before:.2f}", mean > before)
        yield Row(
            "image_inputs", f"distance from the input, strength {strength}", round(mean, 2), "/255", COMMAND, goal, met
        )
        before = mean
    columns = [[pair[0] for pair in pairs[:_SHOWN]], *(ones[:_SHOWN] for ones in outputs)]
    picture = np.concatenate([np.concatenate(column) for column in columns], axis=1)
    Image.fromarray(picture).save(RESULTS / "strength.png", optimize=True)


def _inpainting(served: ServedBundle) -> Row:
    print(f"inpainting, {CASES} pairs")
    pairs, mask = cases(CASES), disc(30)
    requests = [
        GenerationRequest(prompt=prompt, image=data_uri(image), mask=data_uri(mask), seed=1) for image, prompt in pairs
    ]
    outside = ~reached(mask)
    changed = [
        int((drawn.image != image).any(axis=2)[outside].sum())
        for drawn, (image, _) in zip(served.draw(requests), pairs, strict=True)
    ]
    metric = f"changed pixels more than {REACH} from the mask, {CASES} inpainted pictures"
    return Row("image_inputs", metric, sum(changed), "pixels", COMMAND, "== 0", not any(changed))


def reached(mask: Pixels) -> NDArray[np.bool_]:
    """The mask grown by `REACH` pixels."""
    return np.asarray(Image.fromarray(mask).filter(ImageFilter.MaxFilter(2 * REACH + 1))) > 0


def _png(image: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
