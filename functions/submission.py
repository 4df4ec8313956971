"""What a predict event asks for: the body, who sent it, how long they wait, and under which idempotency key."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from darkroom import strict_json
from darkroom.contracts import GenerationRequest
from darkroom.errors import InvalidParameter, MalformedJson, PayloadTooLarge, UnsupportedMediaType
from darkroom.jobs import Idempotency
from darkroom.parsing import parse_request
from darkroom.settings import Settings

_JSON = "application/json"
_CURL_DEFAULT = ("", "application/x-www-form-urlencoded")  # what `curl -d` says of its body when nobody tells it
_IDEMPOTENCY_KEY = re.compile(r"^[\x21-\x7e]{1,255}$")
_WAIT = re.compile(r'wait="?(\d{1,6})"?')


@dataclass(frozen=True)
class Preference:
    """How long the caller waits for the image, in seconds, and what of `Prefer` (RFC 7240) was followed."""

    wait: float
    applied: str | None = None
    respond_async: bool = False


def body_of(event: Mapping[str, Any], headers: Mapping[str, str], limit: int, *, curl_default: bool) -> bytes:
    """The raw body of an event.

    `curl_default` also takes a body that says nothing of its type, or what `curl -d` says by itself: the seeds' line
    has no header. Raises: UnsupportedMediaType, PayloadTooLarge, MalformedJson.
    """
    said = media_type(headers)
    if said != _JSON and not (curl_default and said in _CURL_DEFAULT):
        raise UnsupportedMediaType("The body must be JSON, sent with Content-Type: application/json.")
    return raw_body(event, limit)


def media_type(headers: Mapping[str, str]) -> str:
    """What `Content-Type` says, without its parameters; empty where it says nothing."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def raw_body(event: Mapping[str, Any], limit: int) -> bytes:
    """The body of an event, of whatever type. Raises: PayloadTooLarge, MalformedJson."""
    text = event.get("body") or ""
    try:
        body = base64.b64decode(text, validate=True) if event.get("isBase64Encoded") else text.encode()
    except (binascii.Error, UnicodeEncodeError):
        raise MalformedJson("The body is not UTF-8.") from None
    if len(body) > limit:
        raise PayloadTooLarge(f"The body may have at most {limit} bytes.")
    return body


def request_of(body: bytes) -> GenerationRequest:
    """The request in a body. Raises what `strict_json.parse` and `contracts.parse_request` raise."""
    return parse_request(strict_json.parse(body))


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


def idempotency_of(headers: Mapping[str, str], model: str, request: GenerationRequest) -> Idempotency | None:
    """The caller's key with the fingerprint of what they ask for. Raises: InvalidParameter.

    The fingerprint is over the parsed request: white space and the order of members do not make another request.
    """
    given = headers.get("idempotency-key")
    if given is None:
        return None
    if not _IDEMPOTENCY_KEY.fullmatch(given):
        raise InvalidParameter("Idempotency-Key must be 1 to 255 visible ASCII characters.")
    return Idempotency(given, hashlib.sha256(f"{model}\n{request.model_dump_json()}".encode()).hexdigest())
