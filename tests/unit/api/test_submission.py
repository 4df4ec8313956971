"""What a request says beside its document."""

import pytest

from api import submission
from darkroom import strict_json
from darkroom.contracts import GenerationRequest
from darkroom.errors import InvalidParameter, MalformedJson, UnsupportedMediaType
from darkroom.parsing import parse_request
from darkroom.settings import Settings

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


def test_only_json_is_json() -> None:
    headers = {"content-type": "application/json; charset=utf-8"}
    assert submission.json_body(b"{}", headers) == {}
    for damaged in (b"", b"?", b"\xff"):
        with pytest.raises(MalformedJson):
            submission.json_body(damaged, headers)


def test_only_the_seeds_address_takes_what_curl_says_by_itself() -> None:
    for headers in ({}, {"content-type": "application/x-www-form-urlencoded"}):
        assert submission.json_body(b"{}", headers, curl_default=True) == {}
        with pytest.raises(UnsupportedMediaType):
            submission.json_body(b"{}", headers)
    with pytest.raises(UnsupportedMediaType):
        submission.json_body(b"{}", {"content-type": "text/plain"}, curl_default=True)


def test_the_fingerprint_is_of_what_is_asked_for() -> None:
    def fingerprint(model: str, body: bytes) -> str:
        found = submission.idempotency_of({"idempotency-key": "k"}, model, parse_request(strict_json.parse(body)), {})
        assert found
        return found.fingerprint

    same = {fingerprint("m", body) for body in (b'{"prompt":"a","seed":1}', b' {"seed": 1, "prompt": "\\u0061"}')}
    assert len(same) == 1
    others = {fingerprint("n", b'{"prompt":"a","seed":1}'), fingerprint("m", b'{"prompt":"a"}')}
    assert len(same | others) == 3


@pytest.mark.parametrize("key", ["", " ", "a b", "k" * 256, "ключ"])
def test_a_key_that_is_none(key: str) -> None:
    with pytest.raises(InvalidParameter):
        submission.idempotency_of({"idempotency-key": key}, "m", DOG, {})


def test_a_key_in_quotes_is_the_same_key() -> None:
    plain, quoted = (submission.idempotency_of({"idempotency-key": key}, "m", DOG, {}) for key in ("k-1", '"k-1"'))
    assert plain == quoted


def test_of_images_that_came_along_their_bytes_count() -> None:
    def fingerprint(name: str, image: bytes) -> str:
        request = DOG.model_copy(update={"image": name, "strength": 0.5})
        found = submission.idempotency_of({"idempotency-key": "k"}, "m", request, {name: image})
        assert found
        return found.fingerprint

    assert fingerprint("upload:1", b"a") == fingerprint("upload:2", b"a") != fingerprint("upload:1", b"b")


def test_no_key_no_idempotency() -> None:
    assert submission.idempotency_of({}, "m", DOG, {}) is None
