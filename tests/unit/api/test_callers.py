"""Who asks."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from api import callers
from api.callers import Identity
from darkroom.errors import AccessUnavailable, Unauthorized
from darkroom.settings import Settings


def test_no_key_is_asked_for_where_there_is_none() -> None:
    assert callers.opened(Settings())(None, {"x-api-key": "anything"}) == "default"


def test_a_key_names_its_tenant() -> None:
    tenant = callers.opened(Settings(api_keys="alice=one, bob=two"))
    assert tenant(None, {"x-api-key": "one"}) == "alice"
    assert tenant(None, {"authorization": "bearer two"}) == "bob"
    for headers in ({}, {"x-api-key": "three"}, {"authorization": "Basic two"}, {"authorization": "two"}):
        with pytest.raises(Unauthorized):
            tenant(None, headers)


@pytest.mark.parametrize(("access", "other"), [("jwt", "iam"), ("iam", "jwt")])
def test_who_was_checked_by_the_server_is_known_by_how(access: Any, other: Any) -> None:
    tenant = callers.opened(Settings(access=access))
    assert tenant(Identity(access, "alice"), {"x-api-key": "one"}) == f"{access}:alice"
    for identity in (None, Identity(other, "alice")):
        with pytest.raises(Unauthorized):
            tenant(identity, {"authorization": "Bearer forged"})


class SecretsManager:
    """A client that answers with `said`, or fails where it is None."""

    def __init__(self, said: Any) -> None:
        self.said = said
        self.asked: list[str] = []

    def get_secret_value(self, SecretId: str) -> dict[str, str]:  # noqa: N803  (boto3's own name)
        self.asked.append(SecretId)
        if self.said is None:
            raise EndpointConnectionError(endpoint_url="https://secrets")
        return {"SecretString": self.said if isinstance(self.said, str) else json.dumps(self.said)}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_keys_of_a_secret_are_read_again_after_five_minutes() -> None:
    client, clock = SecretsManager({"alice": "one", "bob": ["two", "new"]}), Clock()
    keys = callers.SecretKeys("arn:keys", client=client, clock=clock)
    assert keys.read() == {"one": "alice", "two": "bob", "new": "bob"}
    client.said = {"bob": "new"}
    clock.now = 299.0
    assert "one" in keys.read()
    clock.now = 300.0
    assert keys.read() == {"new": "bob"}
    assert client.asked == ["arn:keys"] * 2


@pytest.mark.parametrize("broken", [None, "no JSON", "[]", {}, {"alice": ""}, {"alice": 7}])
def test_a_secret_that_cannot_be_read_lets_nobody_in(broken: Any) -> None:
    keys = callers.SecretKeys("arn:keys", client=SecretsManager(broken), clock=Clock())
    with pytest.raises(AccessUnavailable) as refused:
        keys.read()
    assert (refused.value.status, refused.value.retryable) == (503, True)


def test_known_keys_outlive_an_outage_of_an_hour_and_no_more() -> None:
    client, clock = SecretsManager({"alice": "one"}), Clock()
    keys = callers.SecretKeys("arn:keys", client=client, clock=clock)
    assert keys.read() == {"one": "alice"}
    client.said, clock.now = None, 3599.0
    assert keys.read() == {"one": "alice"}
    clock.now = 3600.0
    with pytest.raises(AccessUnavailable):
        keys.read()
    client.said, clock.now = {"alice": "new"}, 3700.0
    assert keys.read() == {"new": "alice"}


def test_a_secret_that_cannot_be_read_is_left_alone_for_a_while() -> None:
    client, clock = SecretsManager(None), Clock()
    keys = callers.SecretKeys("arn:keys", client=client, clock=clock)
    asked_at = []
    for second in range(300):
        clock.now, before = float(second), len(client.asked)
        with pytest.raises(AccessUnavailable):
            keys.read()
        if len(client.asked) > before:
            asked_at.append(second)
    assert asked_at == [0, 5, 15, 35, 75, 135, 195, 255]
    client.said, clock.now = {"alice": "one"}, 315.0
    assert keys.read() == {"one": "alice"}
    client.said, clock.now = None, 615.0  # the pauses begin anew
    keys.read()
    clock.now = 620.0
    keys.read()
    assert len(client.asked) == len(asked_at) + 3


def test_a_caller_does_not_wait_long_for_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")  # else an address of the cloud is asked for them
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    config = callers._secrets_manager().meta.config
    assert (config.connect_timeout, config.read_timeout) == (1.0, 2.0)
    assert config.retries["total_max_attempts"] == 2


def test_the_settings_name_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callers.SecretKeys, "read", lambda self: {"one": self._secret})
    assert callers.opened(Settings(api_keys_secret="arn:keys"))(None, {"x-api-key": "one"}) == "arn:keys"
