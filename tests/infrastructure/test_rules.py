"""Every rule holds for the template, in every configuration; `make validate` prints what was counted."""

import pytest

from tests.infrastructure import rulebook
from tests.infrastructure.stack import CONFIGURATIONS, Stack, read

TEMPLATE = read()


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
@pytest.mark.parametrize("name", rulebook.load())
def test_rule(name: str, configuration: str) -> None:
    assert list(rulebook.RULES[name](Stack(TEMPLATE, CONFIGURATIONS[configuration]))) == []


def test_every_condition_goes_both_ways() -> None:
    stacks = [Stack(TEMPLATE, parameters) for parameters in CONFIGURATIONS.values()]
    seen = {name: {stack.conditions(name) for stack in stacks} for name in TEMPLATE["Conditions"]}
    assert {name for name, values in seen.items() if values != {True, False}} == set()
