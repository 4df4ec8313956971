"""docs/aws.md: every alarm that a deployment may have is explained there, and no other."""

from tests.infrastructure.rules.alarms import explained
from tests.infrastructure.stack import CONFIGURATIONS, Stack, read

TEMPLATE = read()


def test_the_table_of_alarms_is_that_of_the_template() -> None:
    stacks = [Stack(TEMPLATE, parameters) for parameters in CONFIGURATIONS.values()]
    names = {
        one["AlarmName"].removeprefix("darkroom-")
        for stack in stacks
        for one in stack.of("AWS::CloudWatch::Alarm")
        if one["AlarmActions"] == [stack._ref("Alarms")]  # the one that wakes an endpoint tells nobody
    }
    assert explained().keys() == names
