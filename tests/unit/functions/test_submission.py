"""Reading a predict event."""

import base64

import pytest

from darkroom.contracts import GenerationRequest
from darkroom.errors import InvalidParameter, MalformedJson, PayloadTooLarge, UnsupportedMediaType
from darkroom.settings import Settings
from functions import submission

SETTINGS = Settings(max_wait_seconds=60.0)
DOG = GenerationRequest(prompt="a dog")


@pytest.mark.parametrize(
    ("prefer", "wait", "applied", "respond_async"),
    [
        ("", 25.0, None, False),
        ("respond-async", 0.0, "respond-async", True),
        ("wait=10", 10.0, "wait=10", False),
        ('wait="10"', 10.0, "wait=10", False),
        ("WAIT=0", 0.0, "wait=0", False),
        ("wait=100", 60.0, "wait=60", False),
        ("respond-async, wait=5", 5.0, "respond-async, wait=5", True),
        ("handling=lenient; wait=7", 7.0, "wait=7", False),
        ("wait=-1", 25.0, None, False),
        ("wait=soon, return=minimal", 25.0, None, False),
        ("wait=" + "9" * 400, 25.0, None, False),
    ],
)
def test_prefer(prefer: str, wait: float, applied: str | None, respond_async: bool) -> None:
    preference = submission.preference_of({"prefer": prefer}, SETTINGS)
    assert (preference.wait, preference.applied, preference.respond_async) == (wait, applied, respond_async)


def test_the_body_as_api_gateway_sends_it() -> None:
    headers = {"content-type": "application/json; charset=utf-8"}
    for event in ({"body": "{}"}, {"body": base64.b64encode(b"{}").decode(), "isBase64Encoded": True}):
        assert submission.body_of(event, headers, 10, curl_default=False) == b"{}"
    assert submission.body_of({}, headers, 10, curl_default=False) == b""
    with pytest.raises(PayloadTooLarge):
        submission.body_of({"body": "x" * 11}, headers, 10, curl_default=False)
    for damaged in ({"body": "?", "isBase64Encoded": True}, {"body": "\ud800"}):
        with pytest.raises(MalformedJson):
            submission.body_of(damaged, headers, 10, curl_default=False)


def test_only_the_seeds_address_takes_what_curl_says_by_itself() -> None:
    for said in ({}, {"content-type": "application/x-www-form-urlencoded"}):
        assert submission.body_of({"body": "{}"}, said, 10, curl_default=True) == b"{}"
        with pytest.raises(UnsupportedMediaType):
            submission.body_of({"body": "{}"}, said, 10, curl_default=False)
    with pytest.raises(UnsupportedMediaType):
        submission.body_of({"body": "{}"}, {"content-type": "text/plain"}, 10, curl_default=True)


def test_the_fingerprint_is_of_what_is_asked_for() -> None:
    def fingerprint(model: str, body: bytes) -> str:
        found = submission.idempotency_of({"idempotency-key": "k"}, model, submission.request_of(body))
        assert found
        return found.fingerprint

    same = {fingerprint("m", body) for body in (b'{"prompt":"a","seed":1}', b' {"seed": 1, "prompt": "\\u0061"}')}
    assert len(same) == 1
    others = {fingerprint("n", b'{"prompt":"a","seed":1}'), fingerprint("m", b'{"prompt":"a"}')}
    assert len(same | others) == 3


@pytest.mark.parametrize("key", ["", " ", "a b", "k" * 256, "ключ"])
def test_a_key_that_is_none(key: str) -> None:
    with pytest.raises(InvalidParameter):
        submission.idempotency_of({"idempotency-key": key}, "m", DOG)


def test_no_key_no_idempotency() -> None:
    assert submission.idempotency_of({}, "m", DOG) is None
