"""What a job tells of the images that came with it and were made of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from api.schemas.jobs import JobDocument, image_answer, job_document
from darkroom.contracts import GeneratedImage, GenerationResult, Job, StoredImage
from darkroom.parsing import parse_request
from darkroom.storage.directory import DirectoryStore

DATA = "data:image/png;base64,iVBORw0KGgo="
FILE = {"width": 64, "height": 64, "content_type": "image/png", "size": 3, "sha256": "0" * 64}


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path, public_url="https://images.example", signing_key=b"k" * 32)


def succeeded(controls: int) -> Job:
    result = GenerationResult(
        images=[GeneratedImage(key="images/a/0.png", seed=1, **FILE)],
        control_images=[StoredImage(key=f"images/a/control-{index}.png", **FILE) for index in range(controls)],
        seed=1,
        model="crayon",
        version="1" * 16,
        target="fake",
    )
    request = parse_request({"prompt": "a cat", "image": DATA, "mask": "upload:7", "control": [{"image": DATA}, {}]})
    return Job(id="a", tenant="t", model="crayon", request=request, created_at=0, status="succeeded", result=result)


def test_the_control_image_has_a_url(store: DirectoryStore) -> None:
    told = image_answer(succeeded(2), store, expires=60, request_id="r")
    assert told.control_image is not None
    assert "images/a/control-0.png" in told.control_image
    assert told.control_images is not None
    assert "images/a/control-1.png" in told.control_images[1]
    assert job_document(succeeded(2), store, expires=60, request_id="r").control_images is not None


def test_without_control_there_is_none(store: DirectoryStore) -> None:
    told = image_answer(succeeded(0), store, expires=60, request_id="r")
    assert (told.control_image, told.control_images) == (None, None)


def test_the_bytes_of_images_are_not_repeated(store: DirectoryStore) -> None:
    document = job_document(succeeded(0), store, expires=60, request_id="r")
    told = document.request
    short = "data:image/png;base64,"
    assert (told.image, told.mask) == (short, "upload:7")
    assert [control.image for control in told.control or []] == [short, None]
    assert JobDocument.model_validate_json(document.model_dump_json(exclude_none=True)) == document
