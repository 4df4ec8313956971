"""An image in, an image out: what docs/requests.md says of edges, strength and masks, through the whole deployment."""

import base64
import io
import json
import re
import shlex
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from benchmarks.pictures.image_inputs import cases, data_uri, disc, distance, reached
from crayon.judge.judge import Reading, read
from crayon.scenes.edges import canny, edge_agreement
from crayon.scenes.grammar import Background, Colour, Shape
from tests.fakes.remote import Remote

ROOT = Path(__file__).parent.parent.parent
PREDICT = "/v1/models/crayon:predict"
STAR = "a large purple star on a yellow background"

Pixels = NDArray[np.uint8]


@cache
def pixels(path: Path) -> Pixels:
    return np.asarray(Image.open(path).convert("RGB"))


def picture(deployment: Any, url: str) -> Pixels:
    answer = deployment.client.get(url)
    assert answer.status_code == 200
    return np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB"))


def drawn(deployment: Any, asked: Sequence[dict[str, Any]]) -> list[Pixels]:
    """The pictures of requests that are sent together."""

    def one(request: dict[str, Any]) -> Pixels:
        answer = deployment.client.post(PREDICT, json=request, headers={"Prefer": "wait=600"})
        assert answer.status_code == 200, answer.text
        return picture(deployment, answer.json()["image"])

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(one, asked))


def seen(image: Pixels) -> tuple[Background, list[tuple[Shape, Colour]]]:
    reading: Reading = read(image[None])[0]
    return reading.background, [(found.shape, found.colour) for found in reading.objects]


def from_page(deployment: Any, remote: Remote, number: int) -> dict[str, Any]:
    """The answer to a curl line of docs/requests.md's section on images, with this deployment's addresses in it."""
    page = (ROOT / "docs" / "requests.md").read_text()
    section = page.partition("## An image in, an image out")[2].partition("\n## ")[0]
    line = re.findall(r"```sh\n(curl .*?)```", section, re.DOTALL)[number]
    for name in ("star.png", "star-mask.png"):
        remote.serves(f"/{name}", (ROOT / "docs" / "images" / name).read_bytes())
    here, there = str(deployment.client.base_url).rstrip("/"), f"http://127.0.0.1:{remote.port}"
    line = line.replace("http://127.0.0.1:8080", here).replace("http://127.0.0.1:8000", there).replace("\\\n", " ")
    told: dict[str, Any] = json.loads(subprocess.run(shlex.split(line), capture_output=True, check=True).stdout)
    assert "image" in told, told
    return told


def test_the_inputs_edges_and_the_prompts_colours(deployment: Any, remote: Remote) -> None:
    told = from_page(deployment, remote, 0)
    made, star = picture(deployment, told["image"]), pixels(ROOT / "docs" / "images" / "star.png")
    assert seen(made) == (Background.YELLOW, [(Shape.STAR, Colour.PURPLE)])
    assert edge_agreement(canny(star), canny(made)) >= 0.9
    assert np.array_equal(picture(deployment, told["control_image"])[:, :, 0] > 0, canny(star))


def test_an_edge_map_needs_no_preprocessing(deployment: Any) -> None:
    star = pixels(ROOT / "docs" / "images" / "star.png")
    edges = np.repeat(canny(star)[:, :, None], 3, axis=2).astype(np.uint8) * 255
    by_image, by_edges, neither = drawn(
        deployment,
        [
            {"prompt": STAR, "image": data_uri(star), "seed": 1},
            {"prompt": STAR, "image": data_uri(edges), "control": {"preprocess": False}, "seed": 1},
            {"prompt": STAR, "image": data_uri(edges), "control": {"preprocess": False, "scale": 0}, "seed": 1},
        ],
    )
    # Batched with neighbours a picture may differ by floating-point noise, never by what it shows.
    assert distance(by_image, by_edges) < 1
    assert edge_agreement(canny(star), canny(neither)) < 0.9 < edge_agreement(canny(star), canny(by_edges))


def test_an_image_drawn_again_keeps_its_place(deployment: Any, remote: Remote) -> None:
    made = picture(deployment, from_page(deployment, remote, 1)["image"])
    assert seen(made) == (Background.RED, [(Shape.STAR, Colour.BLUE)])


def test_more_strength_leads_further_from_the_image(deployment: Any) -> None:
    """The mean of a few; `make bench PART=image_inputs` has fifty and more strengths."""
    pairs, strengths = cases(8), (0.2, 0.5, 1.0)
    made = drawn(
        deployment,
        [
            {"prompt": prompt, "image": data_uri(image), "strength": strength, "num_inference_steps": 10, "seed": 1}
            for strength in strengths
            for image, prompt in pairs
        ],
    )
    images = [image for image, _ in pairs] * len(strengths)
    distances = [distance(image, one) for image, one in zip(images, made, strict=True)]
    means = np.reshape(distances, (len(strengths), len(pairs))).mean(axis=1).tolist()
    assert means == sorted(means)
    assert means[0] < 0.5 * means[-1]


def test_nothing_changes_outside_the_mask(deployment: Any, remote: Remote) -> None:
    told = from_page(deployment, remote, 2)
    made, star = picture(deployment, told["image"]), pixels(ROOT / "docs" / "images" / "star.png")
    mask = pixels(ROOT / "docs" / "images" / "star-mask.png")[:, :, 0]
    assert np.array_equal(made[~reached(mask)], star[~reached(mask)])
    assert seen(made)[1] == [(Shape.HEART, Colour.GREEN)]


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_nothing_changes_outside_any_mask(deployment: Any, strength: float) -> None:
    pairs, masks = cases(4), [disc(radius) for radius in (5, 20, 40, 60)]
    asked = [
        {"prompt": prompt, "image": data_uri(image), "mask": data_uri(mask), "strength": strength, "seed": 1}
        for (image, prompt), mask in zip(pairs, masks, strict=True)
    ]
    for made, (image, _), mask in zip(drawn(deployment, asked), pairs, masks, strict=True):
        outside = ~reached(mask)
        assert np.array_equal(made[outside], image[outside])
        assert (made[mask > 0] != image[mask > 0]).any()


def test_each_is_what_it_is_alone_whatever_shares_its_batch(deployment: Any) -> None:
    star = data_uri(pixels(ROOT / "docs" / "images" / "star.png"))
    asked: list[dict[str, Any]] = [
        {"prompt": STAR, "image": star, "num_inference_steps": 40},
        {"prompt": "a blue fish", "num_inference_steps": 44},
        {"prompt": "a blue star", "image": star, "strength": 0.6, "num_inference_steps": 48},
        {"prompt": "a green heart", "image": star, "mask": data_uri(disc(52)), "num_inference_steps": 36},
    ]
    asked = [
        {**one, "seed": 1, "guidance_scale": 1, "cache": "off"} for one in asked
    ]  # a row each, so that all fit into a call
    alone = [drawn(deployment, [one])[0] for one in asked]
    before = len(deployment.lines)
    together = drawn(deployment, asked)
    steps = [json.loads(line) for line in deployment.lines[before:] if '"event": "step"' in line]
    assert any(len(set(step["steps"])) > 1 for step in steps)
    for one, other in zip(together, alone, strict=True):
        assert distance(one, other) < 1


def test_a_large_image_by_upload(deployment: Any) -> None:
    large = Image.fromarray(pixels(ROOT / "docs" / "images" / "star.png")).resize(
        (1536, 1536), Image.Resampling.LANCZOS
    )
    noisy = np.asarray(large).astype(int) + np.random.default_rng(1).integers(-4, 5, (1536, 1536, 3))
    buffer = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(buffer, "PNG")
    body = buffer.getvalue()
    refused = deployment.client.post(
        PREDICT,
        json={"prompt": STAR, "image": f"data:image/png;base64,{base64.b64encode(body).decode()}"},
    )
    assert refused.status_code == 413
    place = deployment.client.post("/v1/uploads", json={"size": len(body)}).json()
    assert deployment.client.put(place["url"], content=body, headers=place["headers"]).status_code == 200
    (made,) = drawn(deployment, [{"prompt": STAR, "image": place["upload"], "seed": 1}])
    assert seen(made) == (Background.YELLOW, [(Shape.STAR, Colour.PURPLE)])
