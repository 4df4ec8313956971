"""Settings from the environment, and one sentence for each mistake."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from darkroom.settings import PREFIX, Settings, SettingsError


def test_without_an_environment_the_defaults() -> None:
    assert Settings.read({}) == Settings()
    assert Settings.read({"PATH": "/bin", "HOME": "/"}) == Settings()


def test_every_setting_has_its_variable() -> None:
    given = {"DARKROOM_STORE_URL": "s3://bucket", "DARKROOM_MAX_ATTEMPTS": "5", "DARKROOM_LEASE_SECONDS": "0.5"}
    settings = Settings.read(given)
    assert (settings.store_url, settings.max_attempts, settings.lease_seconds) == ("s3://bucket", 5, 0.5)


def test_images_and_policies_may_have_a_store_of_their_own() -> None:
    together = Settings(store_url="s3://all", jobs_url="sqlite:///jobs.db")
    assert (together.images_store, together.policies_store) == ("s3://all", "sqlite:///jobs.db")
    apart = Settings(images_url="s3://images", policies_url="dynamodb://policies")
    assert (apart.images_store, apart.policies_store) == ("s3://images", "dynamodb://policies")


def test_endpoints_and_instances() -> None:
    settings = Settings(endpoints="crayon=dev-crayon, sd.15=dev-sd-15", instances="0-2")
    assert settings.endpoint_by_model() == {"crayon": "dev-crayon", "sd.15": "dev-sd-15"}
    assert settings.instance_limits() == (0, 2)
    assert (Settings().endpoint_by_model(), Settings().instance_limits()) == ({}, None)


@pytest.mark.parametrize(
    "given",
    [
        {"DARKROOM_ENDPOINTS": "crayon"},
        {"DARKROOM_ENDPOINTS": "crayon=under_score"},
        {"DARKROOM_INSTANCES": "3-2"},
        {"DARKROOM_INSTANCES": "two"},
        {"DARKROOM_ENDPOINT_TYPE": "batch"},
        {"DARKROOM_ACCESS": "none"},
    ],
)
def test_what_no_deployment_can_be(given: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match=next(iter(given))):
        Settings.read(given)


def test_the_process_environment_is_read_on_call(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(PREFIX + name.upper(), raising=False)
    monkeypatch.setenv("DARKROOM_DEFAULT_MODEL", "sd15")
    assert Settings.read().default_model == "sd15"
    monkeypatch.setenv("DARKROOM_DEFAULT_MODEL", "crayon")
    assert Settings.read().default_model == "crayon"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("DARKROOM_STORE_URI", "x", "there is no such setting"),
        ("DARKROOM_MAX_ATTEMPTS", "0", "greater than or equal to 1"),
        ("DARKROOM_MAX_ATTEMPTS", "many", "valid integer"),
        ("DARKROOM_IMAGE_URL_SECONDS", "604801", "less than or equal to 604800"),  # what S3 signs at most
        ("DARKROOM_API_KEYS", "alice", "tenant=key"),
        ("DARKROOM_API_KEYS", "alice=", "tenant=key"),
        ("DARKROOM_API_KEYS", "=secret", "tenant=key"),
        ("DARKROOM_API_KEYS", "alice=secret,bob=secret", "same key"),
    ],
)
def test_a_mistake_is_one_sentence_that_names_the_variable(name: str, value: str, said: str) -> None:
    with pytest.raises(SettingsError) as mistake:
        Settings.read({name: value})
    sentence = str(mistake.value)
    assert sentence.startswith(f"{name}: ")
    assert said in sentence
    assert "\n" not in sentence
    assert "secret" not in sentence


def test_api_keys() -> None:
    assert Settings.read({}).tenants_by_key() == {}
    settings = Settings.read({"DARKROOM_API_KEYS": " alice = k1 ,bob=k2=, alice=k3,"})
    assert settings.tenants_by_key() == {"k1": "alice", "k2=": "bob", "k3": "alice"}


def test_secrets_are_not_shown_and_settings_are_frozen() -> None:
    settings = Settings.read({"DARKROOM_API_KEYS": "alice=hidden", "DARKROOM_SIGNING_KEY": "hidden"})
    assert "hidden" not in repr(settings)
    with pytest.raises(ValidationError):
        settings.max_attempts = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("given", "most"),
    [
        ({}, 1000),
        ({"api_keys": "ann=1"}, 500),
        ({"access": "jwt", "max_queued_jobs": 1}, 1),
        ({"api_keys": "ann=1", "max_tenant_queued_jobs": 900}, 900),
        ({"max_tenant_queued_jobs": 5000}, 1000),
    ],
)
def test_a_tenants_share_of_the_queue(given: dict[str, Any], most: int) -> None:
    assert Settings(**given).tenant_queue() == most


@pytest.mark.parametrize(
    ("listed", "hosts"), [("", []), (" a.example ,*.b.example,", ["a.example", "*.b.example"]), ("*", ["*"])]
)
def test_allowed_hosts(listed: str, hosts: list[str]) -> None:
    assert Settings(allowed_hosts=listed).hosts() == hosts
