"""What a request says beside its document: its type, how long its caller waits, and on which conditions."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from darkroom import strict_json
from darkroom.contracts import GenerationRequest
from darkroom.database.condition import Condition
from darkroom.errors import InvalidParameter, UnsupportedMediaType
from darkroom.jobs import Idempotency
from darkroom.parsing import from_validation
from darkroom.settings import Settings

D = TypeVar("D", bound=BaseModel)
_JSON = "application/json"
_CURL_DEFAULT = ("", "application/x-www-form-urlencoded")  # what `curl -d` says of its body when nobody tells it
_IDEMPOTENCY_KEY = re.compile(r"^[\x21-\x7e]{1,255}$")
_ETAGS = re.compile(r'^\s*(?:W/)?"[^"]*"(?:\s*,\s*(?:W/)?"[^"]*")*\s*$')
_ETAG = re.compile(r'(?:W/)?"[^"]*"')
_WAIT = re.compile(r'wait="?(\d{1,6})"?')


@dataclass(frozen=True)
class Preference:
    """How long the caller waits for the image, in seconds, and what of `Prefer` (RFC 7240) was followed."""

    wait: float
    applied: str | None = None
    respond_async: bool = False


def json_body(body: bytes, headers: Mapping[str, str], *, curl_default: bool = False) -> Any:
    """The parsed body.

    `curl_default` also takes a body that says nothing of its type, or what `curl -d` says by itself: the seeds' line
    has no header. Raises: UnsupportedMediaType; what `strict_json.parse` raises.
    """
    kind = media_type(headers)
    if kind != _JSON and not (curl_default and kind in _CURL_DEFAULT):
        raise UnsupportedMediaType("The body must be JSON, sent with Content-Type: application/json.")
    return strict_json.parse(body)


def document(kind: type[D], body: bytes, headers: Mapping[str, str]) -> D:
    """The document in a body. Raises: what `json_body` and `from_validation` raise."""
    try:
        return kind.model_validate(json_body(body, headers))
    except ValidationError as refused:
        raise from_validation(refused, kind.model_fields) from None


def media_type(headers: Mapping[str, str]) -> str:
    """What `Content-Type` says, without its parameters; empty where it says nothing."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def preference_of(headers: Mapping[str, str], settings: Settings) -> Preference:
    """`Prefer: respond-async` and `Prefer: wait=N`; anything else in it is ignored, as the standard has it.

    Both together mean: answer 202 if it takes longer than N seconds.
    """
    words = [word.strip().lower() for word in headers.get("prefer", "").replace(";", ",").split(",")]
    waits = [int(match[1]) for word in words if (match := _WAIT.fullmatch(word))]
    respond_async = "respond-async" in words
    if waits:
        wait = min(float(waits[0]), settings.max_wait_seconds)
        return Preference(wait, f"{'respond-async, ' if respond_async else ''}wait={wait:g}", respond_async)
    if respond_async:
        return Preference(0.0, "respond-async", respond_async)
    return Preference(min(settings.wait_seconds, settings.max_wait_seconds))


def idempotency_of(
    headers: Mapping[str, str], model: str, request: GenerationRequest, files: Mapping[str, bytes]
) -> Idempotency | None:
    """The caller's key, in quotes or not, with the fingerprint of what they ask for. Raises: InvalidParameter.

    The fingerprint is over the parsed request: white space and the order of members do not make another request. Of an
    image that came along (`files`, by its name in the request) the bytes count.
    """
    key = headers.get("idempotency-key")
    if key is None:
        return None
    if len(key) > 2 and key[0] == key[-1] == '"':  # a string, as draft-ietf-httpapi-idempotency-key-header has it
        key = key[1:-1]
    if files:
        digests = {name: f"sha256:{hashlib.sha256(file).hexdigest()}" for name, file in files.items()}
        request = request.with_sources(lambda source: digests.get(source, source))
    if not _IDEMPOTENCY_KEY.fullmatch(key):
        raise InvalidParameter("Idempotency-Key must be 1 to 255 visible ASCII characters.")
    return Idempotency(key, hashlib.sha256(f"{model}\n{request.model_dump_json()}".encode()).hexdigest())


def not_modified(headers: Mapping[str, str], etag: str) -> bool:
    """Whether `If-None-Match` (RFC 9110, 13.1.2) has this ETag, so that the answer is 304."""
    asked = headers.get("if-none-match", "").strip()
    return asked == "*" or etag in (tag.removeprefix("W/") for tag in _ETAG.findall(asked))


def condition_of(headers: Mapping[str, str]) -> Condition:
    """`If-Match: *` or ETags, and `If-None-Match: *` (RFC 9110); without them any write goes ahead.

    Weak ETags match nothing, as the standard has it for writes. Raises: InvalidParameter.
    """
    match, none_match = (headers.get(name, "").strip() for name in ("if-match", "if-none-match"))
    if match and none_match:
        raise InvalidParameter("Send If-Match or If-None-Match, not both.")
    if none_match:
        if none_match != "*":
            raise InvalidParameter("If-None-Match takes * here: only where there is no policy yet.")
        return Condition(exists=False)
    if not match:
        return Condition()
    if match == "*":
        return Condition(exists=True)
    if not _ETAGS.fullmatch(match):
        raise InvalidParameter('If-Match takes * or the ETag of an answer, quotes included, such as "3".')
    return Condition(match=frozenset(_ETAG.findall(match)))
