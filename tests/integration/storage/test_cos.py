"""Bundles and images in Tencent COS by configuration alone, on requests that boto3 signed for its https endpoint."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from darkroom.contracts import GeneratedImage, GenerationResult
from darkroom.errors import StorageUnavailable
from darkroom.inference.spool import open_spool
from darkroom.storage import open_store, s3
from functions import api
from runtime.bundles.bundle import fetch_bundle
from runtime.bundles.hardware import Machine
from tests.fakes import bundle
from tests.fakes.cos import ENDPOINT, KEY_ID, REGION, Cos

ENGINES, IMAGES = "engines-1250000000", "images-1250000000"
CONFIGURED = {
    "S3_ENDPOINT_URL": ENDPOINT,
    "S3_REGION": REGION,
    "S3_ADDRESSING_STYLE": "virtual",
    "S3_ACCESS_KEY_ID": KEY_ID,
    "S3_SECRET_ACCESS_KEY": "secret",
    "S3_ATTEMPTS": "1",
    "DARKROOM_STORE_URL": f"s3://{ENGINES}",
    "DARKROOM_IMAGES_URL": f"s3://{IMAGES}",
    "POWERTOOLS_METRICS_DISABLED": "true",
}


@pytest.fixture
def cos(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Cos]:
    """COS behind every S3 client, and the environment that sends Darkroom there; the other credentials are AWS's."""
    service, connect = Cos(), s3.connect

    def connected(environment: Any) -> Any:
        client = connect(environment)
        client.meta.events.register("before-send.s3.*", service)
        return client

    monkeypatch.setattr(s3, "connect", connected)
    aws = {"AWS_ACCESS_KEY_ID": "AKIAofaws", "AWS_SECRET_ACCESS_KEY": "other", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in {**CONFIGURED, **aws, "DARKROOM_JOBS_URL": f"sqlite:///{tmp_path / 'jobs.db'}"}.items():
        monkeypatch.setenv(name, value)
    api.from_environment.cache_clear()
    yield service
    api.from_environment.cache_clear()


def ask(method: str, path: str, body: Any = None) -> Any:
    http = {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "curl"}
    event = {
        "version": "2.0",
        "routeKey": "ANY /v1/{proxy+}",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {"content-type": "application/json", "prefer": "respond-async"},
        "body": None if body is None else json.dumps(body),
        "isBase64Encoded": False,
        "requestContext": {"http": http, "requestId": "request-1", "stage": "$default"},
    }
    answer = api.lambda_handler(event, SimpleNamespace())
    assert answer["statusCode"] < 300, answer["body"]
    return json.loads(answer["body"])


def test_engines_and_images_live_in_cos(cos: Cos, tmp_path: Path) -> None:
    """Published, fetched by a runtime, listed and asked for through the API, its image stored and its URL signed."""
    engines, images = open_store(f"s3://{ENGINES}"), open_store(f"s3://{IMAGES}")
    made = bundle.publish(engines, tmp_path)
    machine = Machine({"fake": "1"}, frozenset())
    fetched = fetch_bundle(engines, "crayon", None, None, machine, tmp_path / "cache")
    assert {path: file.read_bytes() for path, file in fetched.files.items()} == bundle.FILES

    assert [one["name"] for one in ask("GET", "/v1/models")["models"]] == ["crayon"]
    job = ask("POST", "/v1/models/crayon:predict", {"prompt": "a cat"})
    key = f"images/{job['id']}/0.png"
    images.put(key, b"PNG", content_type="image/png")
    image = GeneratedImage(key=key, width=64, height=64, content_type="image/png", size=3, sha256="0" * 64, seed=1)
    result = GenerationResult(images=[image], seed=1, model="crayon", version=made.version, target="fake")
    assert api.from_environment().jobs.settle(job["id"], result)

    url = urlsplit(ask("GET", f"/v1/jobs/{job['id']}")["image"])
    query = parse_qs(url.query)
    assert (url.scheme, url.netloc) == ("https", f"{IMAGES}.cos.{REGION}.myqcloud.com")
    assert cos.buckets[IMAGES][url.path.removeprefix("/")] == b"PNG"
    assert query["X-Amz-Credential"][0].split("/")[0] == KEY_ID
    assert set(cos.buckets) == {ENGINES, IMAGES}
    assert ("PUT", ENGINES, f"models/crayon/{made.version}/manifest.json") in cos.asked


def test_an_upload_goes_to_cos_too(cos: Cos) -> None:
    granted = ask("POST", "/v1/uploads", {"content_type": "image/png", "size": 3})
    assert urlsplit(granted["url"]).netloc == f"{IMAGES}.cos.{REGION}.myqcloud.com"


@pytest.mark.parametrize(("setting", "value"), [("S3_ADDRESSING_STYLE", "path"), ("S3_CHECKSUMS", "when_supported")])
def test_what_boto3_does_by_itself_is_refused_there(
    cos: Cos, monkeypatch: pytest.MonkeyPatch, setting: str, value: str
) -> None:
    """The settings are not for ornament: without them nothing could be stored."""
    monkeypatch.setenv(setting, value)
    with pytest.raises(StorageUnavailable):
        open_store(f"s3://{IMAGES}").put("a.png", b"PNG")
    assert not cos.buckets.get(IMAGES)


def test_sagemakers_own_files_stay_in_s3(cos: Cos) -> None:
    """It writes them itself, with its role; nothing of the other store's address or credentials is used."""
    sent = []

    def stop(request: Any, **_: object) -> Any:
        sent.append(request)
        return cos(request)  # which refuses: it is not its host

    spool = open_spool("s3://darkroom-async/async")
    spool._store._client.meta.events.register_first("before-send.s3.*", stop)  # type: ignore[attr-defined]
    with pytest.raises(StorageUnavailable):
        spool.keep("0" * 32, b"{}")
    assert {urlsplit(request.url).netloc for request in sent} == {"darkroom-async.s3.us-east-1.amazonaws.com"}
    assert all(b"AKIAofaws" in request.headers["Authorization"] for request in sent)
