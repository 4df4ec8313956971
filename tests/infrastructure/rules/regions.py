"""Regions: what the stack names is in its own region and partition, in China too."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from tests.infrastructure.rulebook import rule, wants
from tests.infrastructure.stack import HOME, Stack

# Five of AWS's own, old and new, both of China's, and one of the United States' government.
REGIONS = (
    *("us-east-1", "us-west-2", "eu-central-1", "ap-southeast-3", "eu-south-1"),
    *("cn-north-1", "cn-northwest-1", "us-gov-west-1"),
)
# "Getting Started with Amazon Web Services in China", "AWS GovCloud (US) User Guide".
CONSOLES = {
    "aws": "console.aws.amazon.com",
    "aws-cn": "console.amazonaws.cn",
    "aws-us-gov": "console.amazonaws-us-gov.com",
}


@rule
def every_region_is_named_by_itself(stack: Stack) -> Iterator[str]:
    """No ARN of another partition, no address of another region, and a console that exists there."""
    for region in REGIONS:
        there = Stack(stack.template, stack.given, region)
        partition = there.pseudo["AWS::Partition"]
        text = json.dumps([*(one.properties for one in there.resources.values()), there.outputs], default=str)
        for given in there.parameters.values():
            text = text.replace(given, "") if len(given) > 20 else text  # ARNs and images that were asked for
        for other in set(re.findall(r"\barn:(aws[a-z-]*):", text)) - {partition}:
            yield f"{region}: an ARN of {other}"
        yield from wants(region == HOME or HOME not in text, f"{region}: something is in {HOME}")
        hosts = set(re.findall(r"https://[\w.-]+\.(amazonaws\.com(?:\.cn)?)\b", text))
        yield from wants(hosts <= {there.pseudo["AWS::URLSuffix"]}, f"{region}: addresses under {sorted(hosts)}")
        address = there.outputs["DashboardUrl"]
        wanted = f"https://{region}.{CONSOLES[partition]}/cloudwatch/home?region={region}#dashboards:name="
        yield from wants(address.startswith(wanted), f"{region}: the dashboard is not at {address}")
