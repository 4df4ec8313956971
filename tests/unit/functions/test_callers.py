"""Who sent an event."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from darkroom.errors import AccessUnavailable, Unauthorized
from darkroom.settings import Settings
from functions import callers


def event(**authorizer: Any) -> dict[str, Any]:
    return {"requestContext": {"authorizer": authorizer}}


def test_no_key_is_asked_for_where_there_is_none() -> None:
    assert callers.opened(Settings())({}, {"x-api-key": "anything"}) == "default"


def test_a_key_names_its_tenant() -> None:
    tenant = callers.opened(Settings(api_keys="alice=one, bob=two"))
    assert tenant({}, {"x-api-key": "one"}) == "alice"
    assert tenant({}, {"authorization": "bearer two"}) == "bob"
    for headers in ({}, {"x-api-key": "three"}, {"authorization": "Basic two"}, {"authorization": "two"}):
        with pytest.raises(Unauthorized):
            tenant({}, headers)


def test_a_checked_token_names_its_subject() -> None:
    tenant = callers.opened(Settings(access="jwt"))
    assert tenant(event(jwt={"claims": {"sub": "alice"}}), {}) == "jwt:alice"
    assert tenant(event(jwt={"claims": {"client_id": "machine"}}), {"x-api-key": "one"}) == "jwt:machine"
    for without in ({}, event(), event(jwt={"claims": {}}), {"requestContext": {"authorizer": None}}):
        with pytest.raises(Unauthorized):
            tenant(without, {"authorization": "Bearer forged"})


def test_a_signature_names_the_role_and_not_its_session() -> None:
    tenant = callers.opened(Settings(access="iam"))
    assert tenant(event(iam={"userId": "AROAEXAMPLE:yesterday"}), {}) == "iam:AROAEXAMPLE"
    assert tenant(event(iam={"userId": "AROAEXAMPLE:today"}), {}) == "iam:AROAEXAMPLE"
    for without in ({}, event(), event(iam={"userId": None}), event(jwt={"claims": {"sub": "alice"}})):
        with pytest.raises(Unauthorized):
            tenant(without, {})


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


def test_keys_that_were_known_outlive_an_outage() -> None:
    client, clock = SecretsManager({"alice": "one"}), Clock()
    keys = callers.SecretKeys("arn:keys", client=client, clock=clock)
    assert keys.read() == {"one": "alice"}
    client.said, clock.now = None, 1000.0
    assert keys.read() == {"one": "alice"}


def test_the_settings_name_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callers.SecretKeys, "read", lambda self: {"one": self._secret})
    assert callers.opened(Settings(api_keys_secret="arn:keys"))({}, {"x-api-key": "one"}) == "arn:keys"
