"""Places for large images, and data URIs that become uploads."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from api.app import ControlPlane
from api.images import uploads
from api.images.uploads import UploadRequest
from api.limits.quota import UploadQuota
from api.services import Services
from darkroom.contracts import Control, GenerationRequest, Job
from darkroom.errors import (
    DarkroomError,
    JobStoreUnavailable,
    Overloaded,
    RateLimited,
    RuntimeUnavailable,
    StorageFull,
)
from darkroom.images import uploads as shared
from darkroom.inference import QueuedInference
from darkroom.settings import Settings
from darkroom.storage.directory import DirectoryStore
from tests.fakes import api

NOW = 1_800_000_000.0
DATA = b"\x89PNG" * 10
URI = f"data:image/png;base64,{base64.b64encode(DATA).decode()}"

DRAWN_AGAIN = {"prompt": "a dog", "image": URI, "strength": 0.5}


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store", public_url="http://host", signing_key=b"key", clock=lambda: NOW)


def plenty(store: DirectoryStore) -> UploadQuota:
    return UploadQuota(store, 1 << 30)


def requested(size: int, content_type: Any = "image/png") -> UploadRequest:
    return UploadRequest(size=size, content_type=content_type)


def test_a_place_for_one_file(store: DirectoryStore) -> None:
    told = uploads.grant(
        requested(5, "image/webp"), "alice", store, Settings(upload_url_seconds=60), plenty(store), lambda: NOW
    )
    assert (told.method, told.headers) == ("PUT", {"Content-Type": "image/webp", "Content-Length": "5"})
    assert told.expires_at.timestamp() == NOW + 60
    key = shared.key_of("alice", told.upload)
    assert key is not None
    assert told.url.startswith(f"http://host/objects/{key}?expires={int(NOW) + 60}&signature=")
    assert "alice" not in told.url
    assert shared.key_of("bob", told.upload) != key


def test_no_two_places_are_the_same(store: DirectoryStore) -> None:
    grants = {
        uploads.grant(requested(5), "alice", store, Settings(), plenty(store), lambda: NOW).upload for _ in range(50)
    }
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
    kept = uploads.without_data(request, "alice", store, plenty(store), now=lambda: NOW).request
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
        assert uploads.without_data(request, "alice", store, plenty(store)).request == request
    assert list(store.keys("")) == []


@pytest.fixture
def drawing_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the published bundle could start from an image."""
    monkeypatch.setattr("api.accepting.resolve", lambda requested, _manifest: requested)


def stored_in(services: Services) -> list[str]:
    return list(services.store.keys("uploads/"))


@pytest.mark.usefixtures("drawing_again")
def test_what_is_refused_or_replayed_keeps_no_images(tmp_path: Path) -> None:
    """Each left its images behind, for a day."""
    with api.services(tmp_path) as services:
        app = ControlPlane(services)
        body = {**DRAWN_AGAIN, "seed": 1, "mask": URI}
        path, key = "/v1/models/crayon:predict", {"prefer": "respond-async", "idempotency-key": "one"}
        assert api.ask(app, "POST", path, body, headers=key).status_code == 202
        kept = stored_in(services)
        assert len(kept) == 2
        for _ in range(10):
            assert api.ask(app, "POST", path, body, headers=key).json()["code"] == "idempotency_in_progress"
        reused = api.ask(app, "POST", path, {**body, "seed": 2}, headers=key)
        assert reused.json()["code"] == "idempotency_key_reused"
        assert stored_in(services) == kept


@pytest.mark.usefixtures("drawing_again")
@pytest.mark.parametrize("failure", [Overloaded(), JobStoreUnavailable()])
def test_what_the_job_store_refuses_keeps_no_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: DarkroomError
) -> None:
    with api.services(tmp_path) as services:

        def fail(*_: object, **__: object) -> None:
            raise failure

        monkeypatch.setattr(services.jobs, "create", fail)
        answer = api.ask(ControlPlane(services), "POST", "/v1/models/crayon:predict", DRAWN_AGAIN)
        assert (answer.status_code, answer.json()["code"]) == (503, failure.code)
        assert stored_in(services) == []


@pytest.mark.usefixtures("drawing_again")
def test_what_nobody_takes_over_keeps_no_images(tmp_path: Path) -> None:
    class Unreachable(QueuedInference):
        def submit(self, job: Job) -> Job:
            raise RuntimeUnavailable

    with api.services(tmp_path, inference=Unreachable()) as services:
        answer = api.ask(ControlPlane(services), "POST", "/v1/models/crayon:predict", DRAWN_AGAIN)
        assert answer.status_code == 503
        assert stored_in(services) == []


@pytest.mark.usefixtures("drawing_again")
def test_a_full_disk_keeps_not_the_first_of_two_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with api.services(tmp_path) as services:
        put, sent = services.store.put, []

        def once(key: str, body: bytes) -> None:
            sent.append(key)
            if len(sent) == 2:
                raise StorageFull
            put(key, body)

        monkeypatch.setattr(services.store, "put", once)
        body = {**DRAWN_AGAIN, "mask": URI}
        answer = api.ask(ControlPlane(services), "POST", "/v1/models/crayon:predict", body)
        assert (answer.status_code, answer.json()["code"]) == (503, "storage_full")
        assert stored_in(services) == []


@pytest.mark.usefixtures("drawing_again")
def test_a_tenants_uploads_have_a_bound_and_nobody_elses_count(tmp_path: Path) -> None:
    settings = Settings(api_keys="ann=1,bob=2", max_tenant_upload_bytes=1_000_000)
    with api.services(tmp_path, settings) as services:
        app = ControlPlane(services)

        def place(size: int, key: str = "1") -> tuple[int, str | None]:
            answer = api.ask(app, "POST", "/v1/uploads", {"size": size}, headers={"x-api-key": key})
            return answer.status_code, answer.headers.get("retry-after")

        assert [place(size)[0] for size in (600_000, 600_000, 399_000, 1)] == [201, 429, 201, 429]
        assert place(1)[1] == "600"
        assert place(1_000_000, "2")[0] == 201
        body = DRAWN_AGAIN
        answer = api.ask(app, "POST", "/v1/models/crayon:predict", body, headers={"x-api-key": "1"})
        assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")


def test_what_was_deleted_counts_no_more_once_it_is_looked_at_anew(store: DirectoryStore) -> None:
    now = [0.0]
    quota = UploadQuota(store, 1_000_000, lambda: now[0])
    store.put(shared.key("ann", shared.new_id(NOW)), b"x" * 900_000)
    with pytest.raises(RateLimited):
        quota.take("ann", [200_000])
    for key in store.keys("uploads/"):
        store.delete(key)
    with pytest.raises(RateLimited):
        quota.take("ann", [200_000])
    now[0] = 60.0
    quota.take("ann", [1_000_000])
    quota.give_back("ann", [1_000_000])
    quota.take("ann", [1_000_000])


def test_very_small_uploads_count_as_small_ones(store: DirectoryStore) -> None:
    """Else there could be millions, and each look at them would take minutes."""
    quota = UploadQuota(store, 1_000_000)
    quota.take("ann", [1] * 15)
    with pytest.raises(RateLimited):
        quota.take("ann", [1])
    for _ in range(20):
        store.put(shared.key("bob", shared.new_id(NOW)), b"x")
    with pytest.raises(RateLimited):
        quota.take("bob", [1])
