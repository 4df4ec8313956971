"""Faults of object storage and bundles; each test is named after its row of the table of faults."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from darkroom.bundles import catalog
from darkroom.errors import EngineIntegrity, Forbidden, StorageUnavailable
from darkroom.storage.directory import DirectoryStore
from darkroom.storage.s3 import S3Store
from tests.fakes import bundle

BODY = b"PNG" * 100
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}


@dataclass
class FlakyS3:
    """Objects by path, behind a script of faults: one a request, then none."""

    faults: list[str] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    hung: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    def store(self, attempts: int = 3) -> S3Store:
        environment = {
            "S3_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "S3_ADDRESSING_STYLE": "path",
            "S3_REGION": "us-east-1",
            "S3_ATTEMPTS": str(attempts),
            "S3_READ_SECONDS": "0.2",
            "S3_CONNECT_SECONDS": "0.2",
        }
        return S3Store("bucket", environment=environment)


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[FlakyS3]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.0)
    flaky = FlakyS3()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            flaky.requests.append(self.command)
            fault = flaky.faults.pop(0) if flaky.faults else ""
            length = int(self.headers.get("Content-Length", 0))
            sent = self.rfile.read(length // 2 if fault == "drop" else length)
            if fault in ("hang", "drop"):
                flaky.hung.wait(30 if fault == "hang" else 0)
                self.close_connection = True
                return None
            if fault.isdecimal():
                return self.say(int(fault), b"")
            if self.command == "PUT":
                flaky.objects[self.path] = sent
                return self.say(200, b"")
            if self.path not in flaky.objects:
                return self.say(404, b"<Error><Code>NoSuchKey</Code></Error>")
            return self.say(200, flaky.objects[self.path], cut=fault == "cut")

        def say(self, status: int, body: bytes, *, cut: bool = False) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body[: len(body) // 2] if cut else body)
            self.close_connection = cut

        do_GET = do_PUT = do_HEAD = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        flaky.port = server.server_port
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield flaky
        flaky.hung.set()
        server.shutdown()
        serving.join()


def test_row_65_a_manifest_that_escapes_is_refused_and_the_last_good_goes_on(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "objects")
    good = bundle.publish(store, tmp_path)
    content = json.loads(store.get(catalog.bundle_key("crayon", good.version, "manifest.json")))
    content["files"][0]["path"] = "../../../../etc/passwd"
    evil = catalog.bundle_key("crayon", "e" * 16, "manifest.json")
    store.put(evil, json.dumps(content | {"version": "e" * 16}).encode())
    with pytest.raises(EngineIntegrity):
        catalog.set_current(store, "crayon", "e" * 16)
    assert catalog.load_manifest(store, "crayon") == good


def test_row_65_a_manifest_rolled_back_in_place_is_refused(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "objects")
    old = bundle.publish(store, tmp_path)
    new = bundle.publish(store, tmp_path, checkpoint="1" * 64)
    keys = [catalog.bundle_key("crayon", made.version, "manifest.json") for made in (old, new)]
    store.put(keys[1], store.get(keys[0]))
    with pytest.raises(EngineIntegrity, match="does not belong"):
        catalog.load_manifest(store, "crayon")
    catalog.set_current(store, "crayon", old.version)  # the operator's own rollback is a pointer, and works
    assert catalog.load_manifest(store, "crayon") == old


def test_row_65_a_bundle_with_a_missing_file_is_not_published(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "objects")
    good = bundle.publish(store, tmp_path)
    with pytest.raises(EngineIntegrity, match="lacks"):
        catalog.publish(store, bundle.manifest(checkpoint="1" * 64), {})
    assert catalog.load_manifest(store, "crayon") == good


def test_row_66_a_publisher_killed_at_any_flush_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    program = Path(__file__).with_name("publish_loop.py")
    run = subprocess.run(
        [sys.executable, program, tmp_path], capture_output=True, text=True, env=ENVIRONMENT, timeout=120
    )
    assert run.returncode == 0, run.stderr
    *killed, through = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(killed) > 10
    assert all(publisher["ending"] == -9 and publisher["whole"] for publisher in killed)
    assert {publisher["served"] for publisher in killed} == {"old", "new"}
    assert through == {"ending": 0, "served": "new", "whole": True}


def test_row_67_a_store_that_recovers_is_not_noticed(s3: FlakyS3) -> None:
    store = s3.store()
    s3.faults = ["503", "503", "", "503"]
    store.put("image", BODY)
    assert s3.requests == ["PUT", "PUT", "PUT", "HEAD", "HEAD"]
    s3.requests.clear()
    s3.faults = ["hang", "503"]
    assert store.get("image") == BODY
    assert s3.requests == ["GET"] * 3


@pytest.mark.parametrize("fault", ["503", "500", "hang"])
def test_row_67_a_store_that_stays_away_is_given_up_after_bounded_retries(s3: FlakyS3, fault: str) -> None:
    store = s3.store()
    s3.objects["/bucket/image"] = BODY
    for operation in (lambda: store.put("image", BODY), lambda: store.get("image"), lambda: store.exists("image")):
        s3.requests.clear()
        s3.faults = [fault] * 20
        with pytest.raises(StorageUnavailable) as failed:
            operation()
        assert (failed.value.status, failed.value.retryable) == (503, True)
        assert len(s3.requests) == 3


def test_row_67_a_store_that_is_not_there(monkeypatch: pytest.MonkeyPatch, s3: FlakyS3) -> None:
    with closing(socket.socket()) as nobody:  # bound but not listening: connections are refused
        nobody.bind(("127.0.0.1", 0))
        s3.port = nobody.getsockname()[1]
        with pytest.raises(StorageUnavailable):
            s3.store().get("image")


def test_row_67_a_download_that_breaks_off_is_read_again(s3: FlakyS3, tmp_path: Path) -> None:
    store = s3.store()
    s3.objects["/bucket/image"] = BODY
    s3.faults = ["cut", "cut"]
    assert store.get("image") == BODY
    s3.faults = ["cut"]
    assert store.fetch("image", tmp_path / "cache" / "image").read_bytes() == BODY
    s3.faults = ["cut"] * 20
    with pytest.raises(StorageUnavailable):
        store.fetch("image", tmp_path / "cache" / "other")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["image"]  # no part of the other


def test_row_68_an_upload_that_was_cut_is_no_upload(s3: FlakyS3) -> None:
    class Shortening(dict[str, bytes]):
        """A service that loses the tail and does not say so."""

        def __setitem__(self, key: str, value: bytes) -> None:
            super().__setitem__(key, value[:-1])

    s3.objects = Shortening()
    with pytest.raises(StorageUnavailable, match="part"):
        s3.store().put("image", BODY)


def test_row_68_an_upload_whose_connection_breaks_is_sent_again_or_given_up(s3: FlakyS3) -> None:
    s3.faults = ["drop"]
    s3.store().put("image", BODY)
    assert s3.objects["/bucket/image"] == BODY
    s3.faults = ["drop"] * 20
    with pytest.raises(StorageUnavailable):
        s3.store().put("another", BODY)
    assert "/bucket/another" not in s3.objects


def test_row_69_a_full_disk_is_said_and_recovers_by_itself(tmp_path: Path) -> None:
    program = Path(__file__).with_name("disk_full.py")
    run = subprocess.run(
        [sys.executable, program, tmp_path], capture_output=True, text=True, env=ENVIRONMENT, timeout=60
    )
    assert run.returncode == 0, run.stderr
    report = json.loads(run.stdout)
    assert (report["said"]["code"], report["said"]["status"]) == ("storage_full", 503)
    assert (report["left"], report["during"]) == (["image"], "old")  # nothing half-written lies about
    assert report["after"] == 5000


def test_row_70_an_expired_url_is_forbidden_and_a_new_one_works(tmp_path: Path) -> None:
    now = [1_800_000_000.0]
    store = DirectoryStore(tmp_path, public_url="http://host", signing_key=b"secret", clock=lambda: now[0])
    store.put("images/1/0.png", BODY)

    def follow(url: str) -> bytes:
        parts = urlsplit(url)
        query, key = parse_qs(parts.query), parts.path.removeprefix("/objects/")
        store.verify(key, query["expires"][0], query["signature"][0], now[0])
        return store.get(key)

    first = store.url("images/1/0.png", expires=3600)
    assert follow(first) == BODY
    now[0] += 3600
    with pytest.raises(Forbidden):
        follow(first)
    assert follow(store.url("images/1/0.png", expires=3600)) == BODY
