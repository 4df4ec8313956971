"""What happens by itself: ticks, notifications and events reach the function they are for, and only it is called."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.infrastructure import schedule
from tests.infrastructure.iam import allows
from tests.infrastructure.rulebook import rule, states, wants
from tests.infrastructure.stack import Stack

# Which function each rule is for, and how often at least.
TICKS = {"ScaleTick": ("scale", 5), "OverdueTick": ("job_events", 1), "ReleaseTick": ("release", 1)}


@rule
def ticks_come_often_enough(stack: Stack) -> Iterator[str]:
    """A policy is followed within five minutes; an overdue job and an interrupted release are seen within one."""
    for name, (function, minutes) in TICKS.items():
        tick = stack.resources[name]
        said = tick["ScheduleExpression"]
        yield from wants(said in (f"rate({minutes} minutes)", f"rate({minutes} minute)"), f"{name}: {said}")
        (target,) = tick["Targets"]
        wanted = stack.functions()[function]["FunctionName"]
        yield from wants(target["Arn"].endswith(f":{wanted}"), f"{name} does not reach {wanted}")
        retry = target["RetryPolicy"]
        stale = retry["MaximumRetryAttempts"] == 0 and retry["MaximumEventAgeInSeconds"] == 60 * minutes
        yield from wants(stale, f"{name}: a tick that came late must not be added to the next")


@rule
def events_are_on_and_say_why(stack: Stack) -> Iterator[str]:
    """Every rule is enabled, described, and has a schedule or a pattern."""
    for one in stack.of("AWS::Events::Rule"):
        yield from wants(one["State"] == "ENABLED", f"{one.name} is off")
        yield from states(one.name, one.properties, "Description")
        both = {"ScheduleExpression", "EventPattern"} & one.properties.keys()
        yield from wants(len(both) == 1, f"{one.name} has neither schedule nor pattern")
        legal = "ScheduleExpression" not in both or schedule.is_legal(one["ScheduleExpression"])
        yield from wants(legal, f"{one.name}: no schedule: {one.get('ScheduleExpression')}")
        for target in one["Targets"]:
            yield from states(one.name, target, "Id", "Arn", "RetryPolicy.MaximumEventAgeInSeconds")


@rule
def a_moved_pointer_starts_a_release(stack: Stack) -> Iterator[str]:
    """Writing this model's pointer in our bucket does; any other object, bucket or event does not."""
    published = stack.resources["Published"]
    pattern = published["EventPattern"]

    def event(
        key: str, bucket: str = "engines-id", kind: str = "Object Created", source: str = "aws.s3"
    ) -> dict[str, Any]:
        return {"source": source, "detail-type": kind, "detail": {"bucket": {"name": bucket}, "object": {"key": key}}}

    pointer = "models/crayon/current.json"
    yield from wants(_fits(pattern, event(pointer)), "a moved pointer is not noticed")
    for other in (
        event("models/crayon/0123/manifest.json"),
        event("models/other/current.json"),
        event(pointer, bucket="another"),
        event(pointer, kind="Object Deleted"),
        event(pointer, source="ours"),
    ):
        yield from wants(not _fits(pattern, other), f"a release would start by {other}")
    notified = stack.resources["Engines"]["NotificationConfiguration"]["EventBridgeConfiguration"]
    yield from wants(notified["EventBridgeEnabled"] is True, "the bucket tells nobody")
    (target,) = published["Targets"]
    yield from wants(target["Arn"].endswith(f":{stack.functions()['release']['FunctionName']}"), "another function")
    retry = target["RetryPolicy"]
    yield from wants(retry["MaximumRetryAttempts"] == 3, "a release begins with the next tick only")
    yield from wants(retry["MaximumEventAgeInSeconds"] == 3600, "a release that is an hour late was begun by a tick")


def _fits(pattern: Any, event: Any) -> bool:
    if isinstance(pattern, dict):
        return all(key in event and _fits(one, event[key]) for key, one in pattern.items())
    return event in pattern


@rule
def every_caller_is_permitted_and_no_other(stack: Stack) -> Iterator[str]:
    """Whatever calls a function has a permission that names it; each permission is used."""
    functions = {f"function:{one['FunctionName']}": one["FunctionName"] for one in stack.functions().values()}
    rule_arn = "arn:aws:events:us-east-1:123456789012:rule/{}-id"
    wanted = {
        *(
            (target["Arn"].rpartition(":")[2], "events.amazonaws.com", rule_arn.format(one.name.lower()))
            for one in stack.of("AWS::Events::Rule")
            for target in one["Targets"]
        ),
        *(
            (one["Endpoint"].rpartition(":")[2], "sns.amazonaws.com", one["TopicArn"])
            for one in stack.of("AWS::SNS::Subscription")
            if one["Protocol"] == "lambda"
        ),
        *(
            (
                one["IntegrationUri"].rpartition(":")[2],
                "apigateway.amazonaws.com",
                f"arn:aws:execute-api:us-east-1:123456789012:{one['ApiId']}/*",
            )
            for one in stack.of("AWS::ApiGatewayV2::Integration")
        ),
    }
    found = set()
    for one in stack.of("AWS::Lambda::Permission"):
        yield from wants(one["Action"] == "lambda:InvokeFunction", f"{one.name} permits {one.get('Action')}")
        yield from wants(one["FunctionName"] in functions.values(), f"{one.name} is for no function")
        found.add((one["FunctionName"], one["Principal"], one["SourceArn"]))
    for missing in sorted(wanted - found):
        yield f"nobody permits {missing}"
    for idle in sorted(found - wanted):
        yield f"a permission nobody uses: {idle}"


@rule
def notifications_close_jobs(stack: Stack) -> Iterator[str]:
    """Success and failure both reach job_events; what cannot be delivered is kept, and the topics are encrypted."""
    function = stack.functions()["job_events"]["FunctionName"]
    queue = stack._attribute("DeadLetters", "Arn")
    doors = stack.resources["DeadLettersFromTopics"]
    yield from wants(doors["Queues"] == [stack._ref("DeadLetters")], "the policy is for another queue")
    statements = doors["PolicyDocument"]["Statement"]
    for name in ("Succeeded", "Failed"):
        arn = stack._ref(name)
        topic = stack.resources[name]
        yield from wants(topic["KmsMasterKeyId"] == "alias/aws/sns", f"{name} is not encrypted")
        found = [one for one in stack.of("AWS::SNS::Subscription") if one["TopicArn"] == arn]
        yield from wants(len(found) == 1, f"{name} has {len(found)} subscriptions")
        for one in found:
            yield from wants(one["Protocol"] == "lambda", f"{name} is not for a function")
            yield from wants(one["Endpoint"].endswith(f":{function}"), f"{name} reaches another function")
            kept = one["RedrivePolicy"]["deadLetterTargetArn"] == queue
            yield from wants(kept, f"what {name} cannot deliver is lost")
        over = {"aws:SourceArn": arn, "aws:SecureTransport": "true"}
        yield from wants(allows(statements, "sqs:SendMessage", queue, over), f"{name} may not keep what fails")
        plain = over | {"aws:SecureTransport": "false"}
        yield from wants(not allows(statements, "sqs:SendMessage", queue, plain), "the queue is reached without TLS")
    foreign = {"aws:SourceArn": "arn:aws:sns:us-east-1:1:x", "aws:SecureTransport": "true"}
    yield from wants(not allows(statements, "sqs:SendMessage", queue, foreign), "any topic may fill the queue")
    senders = [one["Principal"] for one in statements if one["Effect"] == "Allow"]
    yield from wants(senders == [{"Service": "sns.amazonaws.com"}], "somebody else may fill the queue")
