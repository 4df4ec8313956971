"""What every ObjectStore owes its callers."""

from __future__ import annotations

import hashlib
import os
import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from darkroom.errors import ObjectNotFound, ObjectTooLarge
from darkroom.storage import ObjectStore
from darkroom.storage.s3 import S3Store

INVALID_KEYS = [
    "",
    "/etc/passwd",
    "..",
    "../a",
    "a/../../b",
    "a/./b",
    "a//b",
    "a/",
    ".hidden/a",
    "a/.partial",
    "a\\b",
    "a\0b",
    "a\nb",
    "\ud800",
    "a" * 256,
    "a/" * 600 + "a",
]


def test_what_is_put_is_got(store: ObjectStore) -> None:
    store.put("models/crayon/current.json", b'{"version": "1"}', content_type="application/json")
    assert store.get("models/crayon/current.json") == b'{"version": "1"}'
    assert store.exists("models/crayon/current.json")


def test_an_empty_object_is_an_object(store: ObjectStore) -> None:
    store.put("empty", b"")
    assert store.get("empty") == b""
    assert store.exists("empty")


def test_put_replaces(store: ObjectStore) -> None:
    store.put("a", b"a long first body")
    store.put("a", b"second")
    assert store.get("a") == b"second"
    assert list(store.keys("")) == ["a"]


def test_a_path_is_streamed_and_fetched_whole(store: ObjectStore, tmp_path: Path) -> None:
    source = tmp_path / "unet.bin"
    source.write_bytes(random.Random(7).randbytes((11 << 20) + 3))  # three parts, the last one short
    store.put("models/crayon/unet.bin", source)
    fetched = store.fetch("models/crayon/unet.bin", tmp_path / "made" / "on" / "demand.bin")
    assert hashlib.sha256(fetched.read_bytes()).digest() == hashlib.sha256(source.read_bytes()).digest()
    assert source.exists()


def test_a_fetched_file_survives_replacement_of_its_object(store: ObjectStore, tmp_path: Path) -> None:
    store.put("a", b"old")
    with store.fetch("a", tmp_path / "a").open("rb") as opened:
        store.put("a", b"new and longer")
        assert opened.read() == b"old"


def test_a_missing_source_is_the_callers_mistake(store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        store.put("a", tmp_path / "nothing")
    assert not store.exists("a")


def test_what_is_not_there(store: ObjectStore, tmp_path: Path) -> None:
    store.put("folder/object", b"1")
    for key in ("absent", "folder", "folder/object/below", "folder/obj"):
        assert not store.exists(key)
        with pytest.raises(ObjectNotFound):
            store.get(key)
        with pytest.raises(ObjectNotFound):
            store.fetch(key, tmp_path / "fetched")
        store.delete(key)
    assert not (tmp_path / "fetched").exists()
    assert store.get("folder/object") == b"1"


def test_delete(store: ObjectStore) -> None:
    store.put("images/1/0.png", b"0")
    store.put("images/1/1.png", b"1")
    store.delete("images/1/0.png")
    assert list(store.keys("images/")) == ["images/1/1.png"]
    store.delete("images/1/1.png")
    assert list(store.keys("")) == []
    store.put("images/1/0.png", b"again")
    assert store.get("images/1/0.png") == b"again"


def test_keys_are_sorted_and_start_with_the_prefix(store: ObjectStore) -> None:
    names = ["a-b", "a.b", "a/b", "a/b-c/d", "a/b/c", "ab", "b/é", "b/~", "B"]
    names.remove("a/b")  # a file system cannot hold it beside a/b/c
    for name in names:
        store.put(name, b"")
    for prefix in ("", "a", "a/", "a/b", "a/b/", "b/", "z", "a/b-c/d", "..", "/", "../"):
        assert list(store.keys(prefix)) == sorted(name for name in names if name.startswith(prefix)), prefix


def test_keys_pages_through_more_than_one_listing(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "10")  # S3 itself lists 1000 at a time
    names = [f"n/{number:02} +&%" for number in range(25)]
    for name in names:
        store.put(name, b"")
    assert list(store.keys("n/")) == names


def test_an_invalid_key_is_neither_written_nor_found(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"outside the store")
    for key in INVALID_KEYS:
        with pytest.raises(ValueError, match="key"):
            store.put(key, b"escaped")
        with pytest.raises(ValueError, match="key"):
            store.url(key, expires=60)
        with pytest.raises(ObjectNotFound):
            store.get(key)
        with pytest.raises(ObjectNotFound):
            store.fetch(key, tmp_path / "fetched")
        assert not store.exists(key)
        store.delete(key)
    assert (tmp_path / "a").read_bytes() == b"outside the store"
    assert list(store.keys("")) == []


def test_puts_and_deletes_in_one_folder_race(store: ObjectStore) -> None:
    def churn(number: int) -> None:
        for _ in range(8):
            store.put(f"deep/er/{number}", b"x")
            store.delete(f"deep/er/{number}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(churn, range(4)))
    assert list(store.keys("")) == []


def test_url_carries_the_key_and_a_signature(store: ObjectStore) -> None:
    store.put("images/one two/0.png", b"PNG")
    url = store.url("images/one two/0.png", expires=60)
    assert "images/one%20two/0.png" in url
    assert "ignature=" in url


def test_nothing_is_left_behind_in_the_fetchers_folder(store: ObjectStore, tmp_path: Path) -> None:
    store.put("a", b"1")
    (tmp_path / "cache").mkdir()
    store.fetch("a", tmp_path / "cache" / "a")
    assert set(os.listdir(tmp_path / "cache")) <= {"a"}  # noqa: PTH208


def test_more_than_a_limit_is_not_read(store: ObjectStore) -> None:
    store.put("a", b"12345")
    assert store.get("a", limit=5) == b"12345"
    with pytest.raises(ObjectTooLarge):
        store.get("a", limit=4)
    with pytest.raises(ObjectNotFound):
        store.get("b", limit=4)


def test_an_upload_url_is_for_one_key_size_and_type(store: ObjectStore) -> None:
    given = store.upload_url("uploads/one two", size=5, content_type="image/png", expires=60)
    assert "uploads/one%20two" in given.url
    assert "ignature=" in given.url
    assert given.headers == {"Content-Type": "image/png", "Content-Length": "5"}
    with pytest.raises(ValueError, match="key"):
        store.upload_url("../a", size=5, content_type="image/png", expires=60)


def test_what_is_put_to_an_s3_upload_url_is_an_object(bucket: str, s3_environment: dict[str, str]) -> None:
    store = S3Store(bucket, "below", environment=s3_environment)
    given = store.upload_url("uploads/a", size=5, content_type="image/png", expires=60)
    signed = parse_qs(urlsplit(given.url).query)["X-Amz-SignedHeaders"][0].split(";")
    assert {"content-length", "content-type", "host"} <= set(signed)
    assert httpx.put(given.url, content=b"12345", headers=given.headers).status_code == 200
    assert store.get("uploads/a") == b"12345"


def test_what_was_changed_before_an_instant(store: ObjectStore) -> None:
    for key in ("images/a/0.png", "images/b/0.png", "uploads/1"):
        store.put(key, b"1")
    now = time.time()
    assert list(store.changed_before("images/", now + 60)) == ["images/a/0.png", "images/b/0.png"]
    assert list(store.changed_before("images/", now - 60)) == []


def test_the_sizes_of_all_below_a_prefix(store: ObjectStore) -> None:
    assert list(store.sizes("uploads/")) == []
    for key, body in (("uploads/a/1", b"12345"), ("uploads/a/2", b"678"), ("uploads/b/1", b"9")):
        store.put(key, body)
    found = [sorted(store.sizes(prefix)) for prefix in ("uploads/a/", "uploads/", "uploads/c/")]
    assert found == [[3, 5], [1, 3, 5], []]
