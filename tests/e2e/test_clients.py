"""Clients that users own, unchanged but for the address: their pictures obey their prompts."""

from __future__ import annotations

import base64
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import webuiapi
from huggingface_hub import InferenceClient
from PIL import Image

from crayon.judge.judge import read, score
from crayon.scenes.grammar import Background, Colour, Position, Shape, SingleScene, Size, Subject
from tests.fakes import pictures

HEART = "a large red heart on a blue background"
ASKED = SingleScene(Subject(Shape.HEART, Colour.RED), Size.LARGE, Position.CENTRE, Background.BLUE)
PREDICT = "/v1/models/crayon:predict"


def obeyed(image: bytes | Image.Image) -> bool:
    opened = Image.open(io.BytesIO(image)) if isinstance(image, bytes) else image
    (marks,) = score([ASKED], read(np.asarray(opened.convert("RGB"))[None]))
    return bool(marks.all)


@pytest.fixture
def hugging_face(deployment: Any) -> InferenceClient:
    url = str(deployment.client.base_url).rstrip("/") + PREDICT
    return InferenceClient(model=url, provider="hf-inference", token="any")


def test_openai(deployment: Any) -> None:
    url = str(deployment.client.base_url).rstrip("/") + "/v1"
    with openai.OpenAI(base_url=url, api_key="any") as client:
        answer = client.images.generate(model="crayon", prompt=HEART, size="1024x1024", n=2, extra_body={"seed": 3})
    assert answer.data
    assert len(answer.data) == 2
    assert all(obeyed(base64.b64decode(one.b64_json or "")) for one in answer.data)


def test_edits_of_openai(deployment: Any) -> None:
    """The mask's transparent part is drawn again, and nothing else; without a mask it is the picture, drawn half again;
    and a finished image is an image like any other."""
    url = str(deployment.client.base_url).rstrip("/") + "/v1"
    blue, mask = Image.new("RGB", (128, 128), (190, 214, 250)), Image.new("RGBA", (128, 128), (0, 0, 0, 0))
    mask.paste((0, 0, 0, 255), (0, 0, 128, 8))  # opaque stays
    with openai.OpenAI(base_url=url, api_key="any") as client:
        drawn = client.images.edit(
            image=pictures.file(blue), mask=pictures.file(mask), prompt=HEART, extra_body={"seed": 5}
        )
        assert drawn.data
        picture = base64.b64decode(drawn.data[0].b64_json or "")
        again = client.images.edit(image=picture, prompt=HEART, extra_body={"seed": 4, "strength": 0.5})
    assert obeyed(picture)
    kept = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))[:4].astype(int)
    assert np.abs(kept - np.array((190, 214, 250))).max() < 3
    assert again.data
    assert obeyed(base64.b64decode(again.data[0].b64_json or ""))
    job = drawn.model_dump()["id"]
    body = {"prompt": HEART, "image": f"job:{job}/0", "strength": 0.5, "seed": 4}
    same = deployment.client.post(PREDICT, json=body, headers={"Accept": "image/png"})
    assert same.content == base64.b64decode(again.data[0].b64_json or "")


def test_text_to_image_of_hugging_face(hugging_face: InferenceClient) -> None:
    assert obeyed(hugging_face.text_to_image(HEART))
    image = hugging_face.text_to_image(
        HEART, seed=5, num_inference_steps=30, guidance_scale=6.0, width=128, height=128, scheduler="ddim"
    )
    assert image.size == (128, 128)
    assert obeyed(image)


def test_image_to_image_of_hugging_face(deployment: Any, hugging_face: InferenceClient) -> None:
    start = deployment.client.post(PREDICT, json={"prompt": HEART, "seed": 3}, headers={"Accept": "image/png"}).content
    assert obeyed(start)
    again = hugging_face.image_to_image(start, prompt=HEART, strength=0.5, seed=4)
    assert obeyed(again)
    near = np.asarray(Image.open(io.BytesIO(start)).convert("RGB")).astype(int) - np.asarray(again.convert("RGB"))
    assert np.abs(near).mean() < 30  # it is the picture that was sent, drawn half again


@pytest.mark.parametrize("form", ["png", "jpeg", "webp"])
def test_the_bytes_themselves(deployment: Any, form: str) -> None:
    headers = {"Accept": f"image/{form}, application/json;q=0.5"}
    answer = deployment.client.post(PREDICT, json={"prompt": HEART, "seed": 3}, headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (200, f"image/{form}")
    assert Image.open(io.BytesIO(answer.content)).format == form.upper()
    assert obeyed(answer.content)


def test_instances_of_kserve_and_of_imagen(deployment: Any) -> None:
    kserve = {"instances": [{"prompt": HEART, "seed": 3}, {"prompt": HEART, "seed": 4}]}
    answer: httpx.Response = deployment.client.post(PREDICT, json=kserve)
    predictions = answer.json()["predictions"]
    assert [one["seed"] for one in predictions] == [3, 4]
    assert all(obeyed(base64.b64decode(one["bytesBase64Encoded"])) for one in predictions)
    assert obeyed(deployment.client.get(predictions[0]["image"]).content)
    imagen = {"instances": [{"prompt": HEART}], "parameters": {"sampleCount": 2, "seed": 3, "negativePrompt": "a fish"}}
    predictions = deployment.client.post(PREDICT, json=imagen).json()["predictions"]
    assert [one["mimeType"] for one in predictions] == ["image/png"] * 2
    assert all(obeyed(base64.b64decode(one["bytesBase64Encoded"])) for one in predictions)


def test_automatic1111s(deployment: Any) -> None:
    host, port = deployment.client.base_url.host, deployment.client.base_url.port
    client = webuiapi.WebUIApi(host=host, port=port)
    start = client.txt2img(prompt=HEART, seed=3, width=512, height=512, steps=25, cfg_scale=4.0, sampler_name="DDIM")
    assert obeyed(start.image)
    again = client.img2img(images=[start.image], prompt=HEART, denoising_strength=0.5, seed=4, width=128, height=128)
    assert obeyed(again.image)
    blue, mask = Image.new("RGB", (128, 128), (190, 214, 250)), Image.new("L", (128, 128), 255)
    mask.paste(0, (0, 0, 128, 8))  # black stays
    inpainted = client.img2img(
        images=[blue], mask_image=mask, mask_blur=0, prompt=HEART, denoising_strength=1.0, seed=5, width=128, height=128
    )
    kept = np.asarray(inpainted.image.convert("RGB"))[:4].astype(int)
    assert np.abs(kept - np.array((190, 214, 250))).max() < 3
    assert obeyed(inpainted.image)
    client.session.close()


def test_again_gives_the_very_same_picture(deployment: Any) -> None:
    """Of a request without a seed, though the cache may answer the same prompt from another picture meanwhile."""
    asked = {"prompt": "a small green circle on a white background"}
    first = deployment.client.post(PREDICT, json={**asked, "cache": "off"}).json()
    assert first["again"] == {"seed": first["seed"], "cache": "off"}
    for _ in range(3):  # others', which the cache keeps
        deployment.client.post(PREDICT, json=asked)
    again = deployment.client.post(PREDICT, json={**asked, **first["again"]}).json()
    one, other = (deployment.client.get(told["image"]).content for told in (first, again))
    assert one == other
    begun_elsewhere = deployment.client.post(PREDICT, json=asked).json()
    assert ("again" in begun_elsewhere) == (not begun_elsewhere["cache"]["hit"])


def test_the_quickstart(deployment: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    address = str(deployment.client.base_url).rstrip("/")
    program = Path(__file__).resolve().parents[2] / "examples/quickstart.py"
    ran = subprocess.run([sys.executable, program, address], capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("picture.png: ")
    assert obeyed((tmp_path / "picture.png").read_bytes())
    with Image.open(tmp_path / "again.png") as again:
        assert again.size == (128, 128)
    assert [line.split()[1] for line in ran.stdout.splitlines()[-2:]] == ["succeeded", "succeeded"]
