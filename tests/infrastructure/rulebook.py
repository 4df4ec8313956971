"""Rules about an evaluated template: each says what it wants in its docstring, and yields what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from darkroom.settings import SettingsError
from tests.infrastructure.stack import CONFIGURATIONS, Stack

Rule = Callable[[Stack], Iterator[str]]
UNREADABLE = (KeyError, ValueError, TypeError, AttributeError, IndexError, SettingsError)
RULES: dict[str, Rule] = {}


def rule(function: Rule) -> Rule:
    """Register a rule under its name."""
    RULES[function.__name__] = function
    return function


def load() -> dict[str, Rule]:
    """Every rule, by name."""
    from tests.infrastructure.rules import (  # noqa: F401
        alarms,
        api,
        combinations,
        endpoint,
        events,
        functions,
        parameters,
        regions,
        roles,
        storage,
    )

    return RULES


def violations(template: Mapping[str, Any], configuration: str) -> Iterator[str]:
    """What is wrong with a deployment of the template, rule by rule.

    A rule that cannot even be evaluated (a property it reads is missing) is a violation too.
    """
    try:
        stack = Stack(template, CONFIGURATIONS[configuration])
    except UNREADABLE as broken:
        yield f"the template cannot be evaluated: {broken!r}"
        return
    for name, check in load().items():
        try:
            for said in check(stack):
                yield f"{name}: {said}"
        except UNREADABLE as broken:
            yield f"{name}: cannot be checked: {broken!r}"


def wants(condition: bool, said: str) -> Iterator[str]:
    """`said` where the condition does not hold."""
    if not condition:
        yield said


def states(where: str, properties: Mapping[str, Any], *names: str) -> Iterator[str]:
    """What must be said and not be left to a default of the cloud; `a.b` is `b` inside `a`."""
    for name in names:
        value: Any = properties
        for step in name.split("."):
            value = value.get(step) if isinstance(value, dict) else None
        if value in (None, "", [], {}):
            yield f"{where} does not say its {name}"
