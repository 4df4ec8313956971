"""RUNTIME_ variables -> frozen configuration."""

from __future__ import annotations

import pydantic
import pytest

from darkroom.processors import processors
from darkroom.settings import SettingsError
from runtime import config


def test_defaults() -> None:
    settings = config.load({})
    assert (settings.port, settings.drain_seconds, settings.strict, settings.fd) == (8080, 25.0, False, None)
    assert settings.thread_count == processors()


def test_variables_are_read_and_typed() -> None:
    given = {"RUNTIME_PORT": "9", "RUNTIME_STRICT": "1", "RUNTIME_THREADS": "3", "RUNTIME_FD": "5", "PATH": "/bin"}
    settings = config.load(given)
    assert (settings.port, settings.strict, settings.thread_count, settings.fd) == (9, True, 3, 5)


def test_an_empty_value_counts_as_not_set() -> None:
    assert config.load({"RUNTIME_VERSION": "", "RUNTIME_PORT": ""}) == config.load({})


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("RUNTIME_PORTS", "1", "no such setting"),
        ("RUNTIME_PORT", "many", "valid integer"),
        ("RUNTIME_MAX_ROWS", "1", "greater than or equal to 2"),
        ("RUNTIME_LOG_LEVEL", "loud", "'debug'"),
        ("RUNTIME_MODEL", "../etc", "match pattern"),
        ("RUNTIME_MODELS", "one,../etc", "../etc is no model name"),
        ("RUNTIME_TRUSTED_KEYS", "abc", "a public key is 32 bytes in base64"),
        ("RUNTIME_GPU_MEMORY_FRACTION", "0", "greater than 0"),
    ],
)
def test_what_is_wrong_is_named(name: str, value: str, said: str) -> None:
    with pytest.raises(SettingsError, match=rf"^{name}: .*{said}.*\.$"):
        config.load({name: value})


def test_several_keys_are_trusted_while_one_is_rotated() -> None:
    old, new = "A" * 43 + "=", "B" * 42 + "A="
    assert config.load({"RUNTIME_TRUSTED_KEYS": f"{old}, {new},"}).trusted == [old, new]


def test_the_default_model_is_the_first_of_several() -> None:
    given = {"RUNTIME_MODEL": "crayon", "RUNTIME_MODELS": "sdxl, crayon,sd15,"}
    assert config.load(given).served == ["crayon", "sdxl", "sd15"]
    assert config.load({}).served == ["crayon"]


def test_it_is_frozen() -> None:
    with pytest.raises(pydantic.ValidationError):
        config.load({}).port = 1
