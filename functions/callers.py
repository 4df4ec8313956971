"""Who sent an event: by API key, or by what API Gateway has found out before it called us."""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from darkroom.errors import AccessUnavailable, Unauthorized
from darkroom.settings import Settings

DEFAULT_TENANT = "default"
_FRESH_SECONDS = 300.0  # a changed secret counts within five minutes

Tenant = Callable[[Mapping[str, Any], Mapping[str, str]], str]  # (event, headers in lower case) -> the tenant
TenantsByKey = Callable[[], Mapping[str, str]]


def opened(settings: Settings) -> Tenant:
    """What `settings.access` asks for. Nothing is read yet."""
    if settings.access == "jwt":
        return by_token
    if settings.access == "iam":
        return by_signature
    read = SecretKeys(settings.api_keys_secret).read if settings.api_keys_secret else settings.tenants_by_key
    return lambda _event, headers: by_key(headers, read())


def by_key(headers: Mapping[str, str], tenants: Mapping[str, str]) -> str:
    """The tenant whose API key came in `x-api-key` or `Authorization: Bearer`; any, where there are no keys.

    Raises: Unauthorized.
    """
    if not tenants:
        return DEFAULT_TENANT
    scheme, _, token = headers.get("authorization", "").partition(" ")
    given = headers.get("x-api-key") or (token.strip() if scheme.lower() == "bearer" else "")
    found = [tenant for key, tenant in tenants.items() if hmac.compare_digest(key.encode(), given.encode())]
    if not found:
        raise Unauthorized("Send a valid API key as x-api-key, or as Authorization: Bearer.")
    return found[0]


def by_token(event: Mapping[str, Any], _headers: Mapping[str, str]) -> str:
    """The subject of the token that API Gateway's JWT authorizer has checked. Raises: Unauthorized."""
    claims = _authorizer(event).get("jwt", {}).get("claims", {})
    subject = claims.get("sub") or claims.get("client_id")
    if not subject:
        raise Unauthorized("The token names no subject.")
    return f"jwt:{subject}"


def by_signature(event: Mapping[str, Any], _headers: Mapping[str, str]) -> str:
    """The IAM user or role that signed the request, whatever the session. Raises: Unauthorized."""
    user = str(_authorizer(event).get("iam", {}).get("userId") or "").partition(":")[0]
    if not user:
        raise Unauthorized("Sign the request with AWS Signature Version 4.")
    return f"iam:{user}"


def _authorizer(event: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = event.get("requestContext", {}).get("authorizer") or {}
    return found


class SecretKeys:
    """API keys in a secret of Secrets Manager: a JSON object of tenant -> key, or -> list of keys (to rotate one)."""

    def __init__(self, secret: str, *, client: Any = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._secret = secret
        self._client = client
        self._clock = clock
        self._known: tuple[float, dict[str, str]] | None = None

    def read(self) -> Mapping[str, str]:
        """API key -> tenant. What was read before goes on where the secret cannot be read again.

        Raises: AccessUnavailable; a secret without keys lets nobody in, and is that too.
        """
        if self._known is None or self._clock() - self._known[0] >= _FRESH_SECONDS:
            found = self._fetch()
            if found:
                self._known = self._clock(), found
            elif self._known is None:
                raise AccessUnavailable
        return self._known[1]

    def _fetch(self) -> dict[str, str] | None:
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            client = self._client = self._client or boto3.session.Session().client("secretsmanager")
            tenants: dict[str, Any] = json.loads(client.get_secret_value(SecretId=self._secret)["SecretString"])
            return {
                key: tenant
                for tenant, keys in tenants.items()
                for key in ([keys] if isinstance(keys, str) else keys)
                if isinstance(key, str) and key
            }
        except (BotoCoreError, ClientError, KeyError, ValueError, AttributeError, TypeError):
            return None
