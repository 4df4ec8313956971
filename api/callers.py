"""Who asks: by API key, or by what the server in front of us has found out before it called us."""

from __future__ import annotations

import base64
import hmac
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from darkroom.errors import AccessUnavailable, Unauthorized
from darkroom.settings import Settings

DEFAULT_TENANT = "default"
_FRESH_SECONDS = 300.0  # a changed secret counts within five minutes
_LONGEST_SECONDS = 3600.0  # how long keys are good where the secret cannot be read again
_FIRST_PAUSE, _LONGEST_PAUSE = 5.0, 60.0  # seconds without asking after a failure, doubled each time
_CONNECT_SECONDS, _READ_SECONDS, _ATTEMPTS = 1.0, 2.0, 2  # a caller waits for them


@dataclass(frozen=True)
class Identity:
    """A caller whom the server has checked before it called us, and how: a token's subject, or who signed (IAM)."""

    kind: Literal["jwt", "iam"]
    subject: str


Tenant = Callable[[Identity | None, Mapping[str, str]], str]  # (identity, headers in lower case) -> the tenant


def opened(settings: Settings) -> Tenant:
    """What `settings.access` asks for. Nothing is read yet."""
    if settings.access == "jwt":
        return lambda identity, _headers: by_identity(identity, "jwt", "The token names no subject.")
    if settings.access == "iam":
        return lambda identity, _headers: by_identity(identity, "iam", "Sign the request with AWS Signature Version 4.")
    read = SecretKeys(settings.api_keys_secret).read if settings.api_keys_secret else settings.tenants_by_key
    return lambda _identity, headers: by_key(headers, read())


def by_key(headers: Mapping[str, str], tenants: Mapping[str, str]) -> str:
    """The tenant whose API key came in `x-api-key`, or in `Authorization` as a bearer token or, with any user name, as
    a password (HTTP Basic, RFC 7617); any, where there are no keys.

    Raises: Unauthorized.
    """
    if not tenants:
        return DEFAULT_TENANT
    scheme, _, token = headers.get("authorization", "").partition(" ")
    given = headers.get("x-api-key") or _key_in(scheme.lower(), token.strip())
    matches = [tenant for key, tenant in tenants.items() if hmac.compare_digest(key.encode(), given.encode())]
    if not matches:
        raise Unauthorized("Send a valid API key as x-api-key, or as Authorization: Bearer.")
    return matches[0]


def _key_in(scheme: str, token: str) -> str:
    if scheme == "basic":
        try:
            return base64.b64decode(token, validate=True).decode().partition(":")[2]
        except ValueError:
            return ""
    return token if scheme == "bearer" else ""


def by_identity(identity: Identity | None, kind: str, refusal: str) -> str:
    """The tenant of a caller who was checked as `kind`. Raises: Unauthorized, with `refusal`."""
    if identity is None or identity.kind != kind:
        raise Unauthorized(refusal)
    return f"{kind}:{identity.subject}"


class SecretKeys:
    """API keys in a secret of Secrets Manager: a JSON object of tenant -> key, or -> list of keys (to rotate one).

    They are read again every five minutes. Where that fails, the keys known so far stay good until they are an hour
    old, and the secret is left alone for a while: 5 s after the first failure, up to a minute after many.
    """

    def __init__(self, secret: str, *, client: Any = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._secret = secret
        self._client = client
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: dict[str, str] = {}
        self._good_until = self._ask_at = -float("inf")
        self._pause = _FIRST_PAUSE

    def read(self) -> Mapping[str, str]:
        """API key -> tenant.

        Raises: AccessUnavailable; a secret without keys lets nobody in, and is that too.
        """
        with self._lock:  # one asks, however many callers there are
            now = self._clock()
            if now >= self._ask_at:
                self._ask(now)
            if now >= self._good_until:
                raise AccessUnavailable
            return self._keys

    def _ask(self, now: float) -> None:
        keys = self._fetch()
        if keys:
            self._keys, self._good_until = keys, now + _LONGEST_SECONDS
            self._ask_at, self._pause = now + _FRESH_SECONDS, _FIRST_PAUSE
        else:
            self._ask_at, self._pause = self._clock() + self._pause, min(2 * self._pause, _LONGEST_PAUSE)

    def _fetch(self) -> dict[str, str] | None:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            client = self._client = self._client or _secrets_manager()
            tenants: dict[str, Any] = json.loads(client.get_secret_value(SecretId=self._secret)["SecretString"])
            return {
                key: tenant
                for tenant, keys in tenants.items()
                for key in ([keys] if isinstance(keys, str) else keys)
                if isinstance(key, str) and key
            }
        except (BotoCoreError, ClientError, KeyError, ValueError, AttributeError, TypeError):
            return None


def _secrets_manager() -> Any:
    import boto3
    from botocore.config import Config

    retries = {"total_max_attempts": _ATTEMPTS, "mode": "standard"}
    config = Config(connect_timeout=_CONNECT_SECONDS, read_timeout=_READ_SECONDS, retries=retries)
    return boto3.session.Session().client("secretsmanager", config=config)
