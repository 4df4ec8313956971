"""Whom a presigned URL leads to, the bucket's region or the service that was named, and for how long it does."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import pytest

from darkroom.storage.s3 import S3Store
from tests.fakes.s3_regions import GLOBAL, Bucket, regions

SECRET = "secret"
CHINA = {"cn-north-1", "cn-northwest-1"}


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION", "AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)


def host(url: str) -> str:
    return str(urlsplit(url).hostname)


def test_the_regions_are_those_of_aws() -> None:
    assert len(regions()) >= 30
    assert regions().keys() >= CHINA | {"us-east-1", "eu-central-1", "ap-east-1"}


@pytest.mark.parametrize("region", sorted(regions()))
@pytest.mark.parametrize("style", ["", "auto", "virtual"])
def test_a_url_is_signed_for_the_buckets_own_region(region: str, style: str) -> None:
    bucket = Bucket("images-id", region, SECRET)
    store = S3Store("images-id", environment={"S3_REGION": region, "S3_ADDRESSING_STYLE": style})
    image = store.url("images/1/0.png", expires=60)
    assert host(image) == bucket.host
    assert bucket.fetch(image) == 200
    upload = store.upload_url("uploads/1", size=3, content_type="image/png", expires=60)
    assert host(upload.url) == bucket.host
    assert (
        bucket.fetch(upload.url, "PUT", **{name.replace("-", "_"): text for name, text in upload.headers.items()})
        == 200
    )


def test_china_has_a_domain_of_its_own() -> None:
    for region in CHINA:
        url = S3Store("images-id", environment={"S3_REGION": region}).url("a", expires=60)
        assert host(url) == f"images-id.s3.{region}.amazonaws.com.cn"


@pytest.mark.parametrize(("region", "status"), [("eu-central-1", 403), ("ap-east-1", 400), ("me-central-1", 400)])
def test_the_fake_refuses_what_was_signed_for_the_global_host(region: str, status: int) -> None:
    """307 and a signature that is then wrong, or 400: what boto3 signs where it is left alone."""
    import boto3

    left_alone = boto3.session.Session().client("s3", region_name=region)
    url = left_alone.generate_presigned_url("get_object", Params={"Bucket": "images-id", "Key": "a"})
    assert host(url) == f"images-id.{GLOBAL}"
    assert Bucket("images-id", region, SECRET).fetch(url) == status


@pytest.mark.parametrize("variable", ["AWS_REGION", "AWS_DEFAULT_REGION"])
def test_a_function_and_a_container_find_their_region(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "eu-west-3")
    assert host(S3Store("images-id").url("a", expires=60)) == "images-id.s3.eu-west-3.amazonaws.com"


@pytest.mark.parametrize(
    ("configured", "expected"),
    [
        (
            {"S3_ENDPOINT_URL": "https://cos.ap-guangzhou.myqcloud.com", "S3_ADDRESSING_STYLE": "virtual"},
            "https://images-id.cos.ap-guangzhou.myqcloud.com/a?",
        ),
        (
            {"S3_ENDPOINT_URL": "http://127.0.0.1:9000", "S3_ADDRESSING_STYLE": "path"},
            "http://127.0.0.1:9000/images-id/a?",
        ),
        ({"S3_ENDPOINT_URL": "http://minio:9000", "S3_ADDRESSING_STYLE": "path"}, "http://minio:9000/images-id/a?"),
        ({"S3_ENDPOINT_URL": "http://minio:9000"}, "http://minio:9000/images-id/a?"),
        ({"AWS_ENDPOINT_URL": "http://localhost:4566"}, "http://localhost:4566/images-id/a?"),
        ({"AWS_ENDPOINT_URL_S3": "http://localhost:4566"}, "http://localhost:4566/images-id/a?"),
        ({"S3_ADDRESSING_STYLE": "path"}, "https://s3.eu-central-1.amazonaws.com/images-id/a?"),
    ],
)
def test_other_services_and_styles_are_as_they_were_named(
    configured: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"S3_REGION": "eu-central-1", **configured}.items():
        monkeypatch.setenv(name, value)
    assert S3Store("images-id").url("a", expires=60).startswith(expected)


def test_a_bucket_that_is_no_host_name_is_named_in_the_path() -> None:
    """A certificate for `*.s3...` does not cover a name with dots."""
    url = S3Store("my.images", environment={"S3_REGION": "eu-central-1"}).url("a", expires=60)
    assert url.startswith("https://s3.eu-central-1.amazonaws.com/my.images/a?")


# ---- for how long -------------------------------------------------------------------------------------------------

SESSION_ENDS = 2_000_000_000.0  # seconds since the epoch
WEEK = 604_800


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """Signed by a role's session that says when it ends."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    ends = datetime.fromtimestamp(SESSION_ENDS, UTC)
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", ends.isoformat())
    return Bucket("images-id", "eu-central-1", SECRET, SESSION_ENDS)


@pytest.mark.parametrize(("left", "asked", "promised"), [(1200, 3600, 1200), (1200, 900, 900), (86_400, WEEK, 86_400)])
def test_no_url_promises_more_than_its_signers_session(session: Bucket, left: int, asked: int, promised: int) -> None:
    store = S3Store("images-id", environment={"S3_REGION": session.region}, wall=lambda: SESSION_ENDS - left)
    for url in (store.url("a", expires=asked), store.upload_url("a", size=1, content_type="i/p", expires=asked).url):
        assert parse_qs(urlsplit(url).query)["X-Amz-Expires"] == [str(promised)]


def test_the_fake_ends_what_a_session_signed(session: Bucket) -> None:
    store = S3Store("images-id", environment={"S3_REGION": session.region}, wall=lambda: SESSION_ENDS - 2 * WEEK)
    url = store.url("a", expires=WEEK)
    assert session.fetch_at(url, session.promised(url)) == 200
    assert session.fetch_at(url, session.promised(url) + 1) == 403
    assert replace(session, session_ends=session.promised(url) - 60).fetch_at(url, session.promised(url)) == 403


def test_a_session_that_does_not_say_when_it_ends_signs_for_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Lambda's, in its variables."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    url = S3Store("images-id", environment={"S3_REGION": "eu-central-1"}).url("a", expires=WEEK)
    assert parse_qs(urlsplit(url).query)["X-Amz-Expires"] == ["3600"]


def test_keys_without_a_session_sign_for_as_long_as_was_asked(session: Bucket) -> None:
    own = {"S3_REGION": "eu-central-1", "S3_ACCESS_KEY_ID": "id", "S3_SECRET_ACCESS_KEY": SECRET}
    url = S3Store("images-id", environment=own).url("a", expires=WEEK)
    assert parse_qs(urlsplit(url).query)["X-Amz-Expires"] == [str(WEEK)]
