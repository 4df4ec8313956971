"""An image sent by PUT, to the address that POST /v1/uploads gave."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from darkroom.images import uploads
from darkroom.storage.directory import DirectoryStore
from tests.fakes.deployment import Running, running

BODY = b"\x89PNG and what follows"


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("uploads"), api_keys="alice=a,bob=b", max_upload_bytes=1000) as deployment:
        yield deployment


def grant(deployment: Running, key: str = "a", **asked: Any) -> dict[str, Any]:
    answer = deployment.client.post("/v1/uploads", json={"size": len(BODY), **asked}, headers={"x-api-key": key})
    assert answer.status_code == 201, answer.text
    told: dict[str, Any] = answer.json()
    return told


def test_old_uploads_are_deleted_where_images_are_kept(tmp_path: Path) -> None:
    images = DirectoryStore(tmp_path / "images")
    old, new = (uploads.key("alice", uploads.new_id(instant)) for instant in (1_000_000_000, time.time()))
    for key in (old, new):
        images.put(key, BODY)
    with running(tmp_path, images_url=f"file://{tmp_path}/images") as deployment:
        deployment.until(lambda: not images.exists(old))
        assert images.exists(new)


def test_what_is_sent_is_its_tenants(deployment: Running) -> None:
    told = grant(deployment)
    sent = deployment.client.request(told["method"], told["url"], content=BODY, headers=told["headers"])
    assert (sent.status_code, sent.content) == (200, b"")
    store = deployment.deployment.store
    assert store.get(uploads.key_of("alice", told["upload"])) == BODY
    assert not store.exists(uploads.key_of("bob", told["upload"]))


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (BODY + b"!", {}),
        (BODY[:-1], {}),
        (BODY, {"Content-Type": "text/html"}),
        (BODY, {"Content-Type": ""}),
        ([BODY], {"Content-Length": None}),  # in chunks, without a length
    ],
)
def test_another_size_or_type_is_not_taken(deployment: Running, content: Any, headers: dict[str, str | None]) -> None:
    told = grant(deployment)
    said = {"Content-Type": "image/png", **headers}
    sent = deployment.client.put(
        told["url"], content=content, headers={name: value for name, value in said.items() if value is not None}
    )
    assert (sent.status_code, sent.json()["code"]) == (403, "forbidden")
    assert not deployment.deployment.store.exists(uploads.key_of("alice", told["upload"]))


def test_an_upload_url_is_for_sending_that_one_object(deployment: Running) -> None:
    told = grant(deployment)
    assert deployment.client.get(told["url"]).status_code == 403
    assert deployment.client.put(told["url"] + "0", content=BODY, headers=told["headers"]).status_code == 403
    elsewhere = told["url"].replace(told["upload"].removeprefix("upload:"), "another")
    assert deployment.client.put(elsewhere, content=BODY, headers=told["headers"]).status_code == 403
    assert deployment.client.delete(told["url"]).status_code == 405


def test_an_upload_is_sent_once(deployment: Running) -> None:
    """Else an image could be another one by the time that its job is tried again."""
    told = grant(deployment)
    client, store = deployment.client, deployment.deployment.store
    assert client.put(told["url"], content=BODY, headers=told["headers"]).status_code == 200
    again = client.put(told["url"], content=BODY[::-1], headers=told["headers"])
    assert (again.status_code, again.json()["code"]) == (409, "upload_exists")
    assert store.get(uploads.key_of("alice", told["upload"])) == BODY


def test_an_upload_is_not_held_in_memory_and_what_is_cut_off_leaves_nothing(
    deployment: Running,
) -> None:
    """A hundred that stopped short of one byte took 1.8 GB."""
    told = grant(deployment)
    path = told["url"].partition(str(deployment.port))[2]
    head = f"PUT {path} HTTP/1.1\r\nHost: localhost\r\n" + "".join(
        f"{name}: {value}\r\n" for name, value in told["headers"].items()
    )
    partials = deployment.directory.parent / "data/store/.partial"
    with socket.create_connection(("127.0.0.1", deployment.port), timeout=60) as connection:
        connection.sendall(head.encode() + b"\r\n" + BODY[:-1])
        deployment.until(lambda: any(partials.iterdir()))
        refused = deployment.client.put(told["url"], content=BODY, headers=told["headers"])
        assert (refused.status_code, refused.json()["code"]) == (409, "upload_exists")
    deployment.until(lambda: not any(partials.iterdir()))
    assert deployment.client.put(told["url"], content=BODY, headers=told["headers"]).status_code == 200


def test_an_image_url_is_not_for_sending(deployment: Running) -> None:
    key = {"x-api-key": "a"}
    url = deployment.client.post("/v1/models/m:predict", json={"prompt": "a dog"}, headers=key).json()["image"]
    before = deployment.client.get(url).content
    assert deployment.client.put(url, content=BODY, headers={"Content-Type": "image/png"}).status_code == 403
    assert deployment.client.get(url).content == before


def test_places_are_given_to_tenants_within_the_cap(deployment: Running) -> None:
    for body, headers, status, code in (
        ({"size": 5}, {}, 401, "unauthorized"),
        ({"size": 1001}, {"x-api-key": "a"}, 422, "image_too_large"),
        ({"size": 5, "name": "x"}, {"x-api-key": "a"}, 422, "unknown_field"),
    ):
        answer = deployment.client.post("/v1/uploads", json=body, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert deployment.client.get("/v1/uploads").status_code == 405


def test_urls_begin_as_each_caller_reached_the_deployment(tmp_path: Path) -> None:
    """On 0.0.0.0 everybody was given addresses at 127.0.0.1."""
    with running(tmp_path, public_url="", allowed_hosts="images.example") as deployment:
        ask = deployment.client.post
        for host in (
            f"localhost:{deployment.port}",
            f"127.0.0.1:{deployment.port}",
            "192.0.2.7:8080",
            "images.example",
        ):
            told = ask("/v1/models/m:predict", json={"prompt": "a dog"}, headers={"host": host}).json()
            place = ask("/v1/uploads", json={"size": 5}, headers={"host": host}).json()
            for url in (told["image"], place["url"]):
                assert url.startswith(f"http://{host}/objects/")
            path = told["image"].partition(host)[2]
            assert deployment.client.get(path, headers={"host": host}).status_code == 200
            again = {"prompt": "a dog", "image": told["image"], "strength": 0.5}
            answer = ask("/v1/models/m:predict", json=again, headers={"host": host, "prefer": "respond-async"})
            assert answer.json()["request"]["image"].startswith("upload:")
        assert ask("/v1/uploads", json={"size": 5}, headers={"host": "evil.example"}).status_code == 421
