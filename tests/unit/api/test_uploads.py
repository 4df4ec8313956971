"""Places for large images, and data URIs that become uploads."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from api import uploads
from api.app import ControlPlane
from api.uploads import UploadRequest
from darkroom.contracts import Control, GenerationRequest
from darkroom.images import uploads as shared
from darkroom.settings import Settings
from darkroom.storage.directory import DirectoryStore
from tests.fakes import api

NOW = 1_800_000_000.0
DATA = b"\x89PNG" * 10
URI = f"data:image/png;base64,{base64.b64encode(DATA).decode()}"


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store", public_url="http://host", signing_key=b"key", clock=lambda: NOW)


def requested(size: int, content_type: Any = "image/png") -> UploadRequest:
    return UploadRequest(size=size, content_type=content_type)


def test_a_place_for_one_file(store: DirectoryStore) -> None:
    told = uploads.grant(requested(5, "image/webp"), "alice", store, Settings(upload_url_seconds=60), lambda: NOW)
    assert (told.method, told.headers) == ("PUT", {"Content-Type": "image/webp", "Content-Length": "5"})
    assert told.expires_at.timestamp() == NOW + 60
    key = shared.key_of("alice", told.upload)
    assert key is not None
    assert told.url.startswith(f"http://host/objects/{key}?expires={int(NOW) + 60}&signature=")
    assert "alice" not in told.url
    assert shared.key_of("bob", told.upload) != key


def test_no_two_places_are_the_same(store: DirectoryStore) -> None:
    grants = {uploads.grant(requested(5), "alice", store, Settings(), lambda: NOW).upload for _ in range(50)}
    assert len(grants) == 50


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        ("{", "malformed_json", None),
        ("null", "invalid_parameter", None),
        ({}, "invalid_parameter", "/size"),
        ({"size": 0}, "out_of_range", "/size"),
        ({"size": 1001}, "image_too_large", "/size"),
        ({"size": 10**30}, "image_too_large", "/size"),
        ({"size": "5"}, "invalid_type", "/size"),
        ({"size": True}, "invalid_type", "/size"),
        ({"size": 5, "content_type": "image/gif"}, "invalid_parameter", "/content_type"),
        ({"size": 5, "content_type": "image/png\r\nX: y"}, "invalid_parameter", "/content_type"),
        ({"size": 5, "key": "../other"}, "unknown_field", "/key"),
    ],
)
def test_what_is_refused(tmp_path: Path, body: Any, code: str, field: str | None) -> None:
    headers = {"content-type": "application/json"}
    with api.services(tmp_path, Settings(max_upload_bytes=1000)) as services:
        refused = api.ask(ControlPlane(services), "POST", "/v1/uploads", body, headers=headers)
    assert (refused.json()["code"], refused.json().get("field")) == (code, field)


def test_data_uris_become_uploads(store: DirectoryStore) -> None:
    request = GenerationRequest(
        prompt="a", image=URI, mask=URI.replace("data:", "DATA:"), control=[Control(image=URI), Control()]
    )
    kept = uploads.without_data(request, "alice", store, lambda: NOW)
    sources = [kept.image, kept.mask, (kept.control or [])[0].image]
    for source in sources:
        key = shared.key_of("alice", source or "")
        assert key is not None
        assert store.get(key) == DATA
    assert len(set(sources)) == 3
    assert (kept.control or [])[1].image is None
    assert GenerationRequest.model_validate(kept.model_dump()) == kept


def test_other_sources_stay_as_they_are(store: DirectoryStore) -> None:
    for source in (None, "https://images.example/a.png", shared.reference(shared.new_id(NOW))):
        request = GenerationRequest(prompt="a", image=source)
        assert uploads.without_data(request, "alice", store) == request
    assert list(store.keys("")) == []
