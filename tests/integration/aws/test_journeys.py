"""One test for each arrow of the diagram in docs/aws.md."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace

import httpx
import pytest

from darkroom.errors import GenerationFailed
from darkroom.scaling.application_autoscaling import ScalableEndpoint
from functions import job_events, scale
from tests.fakes.container import Container
from tests.integration.aws.conftest import ENDPOINT, Stack

Make = Callable[..., Stack]


def image(url: str) -> bytes:
    answer = httpx.get(url, trust_env=False)
    assert answer.status_code == 200
    return answer.content


# ---- a request and its image --------------------------------------------------------------------------------------


def test_predict_waits_and_answers_with_an_image_url(stack: Make) -> None:
    status, headers, said = stack().predict("a large red heart", seed=3)
    assert (status, headers["Preference-Applied"]) == (200, "wait=25")
    assert said["model"] == "tiny"
    assert said["target"] == "openvino-fp32"
    assert image(said["image"]).startswith(b"\x89PNG")


def test_the_seeds_own_line_is_answered_too(stack: Make) -> None:
    status, _, said = stack().ask("POST", "/tione/v1/models/m%3Apredict", {"prompt": "a cute dog"})
    assert status == 200
    assert said["image"].startswith("http")


def test_a_request_that_takes_longer_is_a_job_to_poll(stack: Make) -> None:
    deployed = stack()
    deployed.works = False  # no instance runs yet
    status, headers, said = deployed.predict("a cat", prefer="wait=2")
    assert (status, said["status"]) == (202, "queued")
    assert deployed.ask("GET", headers["Location"])[2]["status"] == "queued"
    deployed.settle()
    finished = deployed.ask("GET", headers["Location"])[2]
    assert finished["status"] == "succeeded"
    assert image(finished["image"])
    assert finished["id"] == said["id"]


def test_respond_async_is_answered_at_once(stack: Make) -> None:
    deployed = stack()
    status, headers, _ = deployed.predict("a cat", prefer="respond-async")
    assert (status, headers["Preference-Applied"], deployed.now) == (202, "respond-async", 0.0)
    deployed.settle()
    assert deployed.ask("GET", headers["Location"])[2]["status"] == "succeeded"


def test_a_request_too_large_for_the_queue_goes_through_s3(stack: Make) -> None:
    deployed = stack()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("darkroom.inference.sagemaker.INLINE_BYTES", 10_000)
        status, _, said = deployed.predict("\U0001f431" * 10_000)
    assert status == 200
    (queued,) = deployed.front.received
    assert (queued.body, queued.location) == (None, f"s3://images/async/in/{said['id']}")
    assert said["warnings"][0]["code"] == "prompt_truncated"


def test_the_same_idempotency_key_makes_one_image(stack: Make) -> None:
    deployed = stack()
    body = {"prompt": "a cat"}
    first = deployed.ask("POST", "/v1/models/tiny:predict", body, idempotency_key="once")
    again = deployed.ask("POST", "/v1/models/tiny:predict", body, idempotency_key="once")
    assert (first[0], again[0]) == (200, 200)
    assert first[2]["id"] == again[2]["id"]
    assert len(deployed.front.received) == 1


# ---- a request that is not to be ----------------------------------------------------------------------------------


def test_a_failure_is_told_as_the_container_told_it(stack: Make) -> None:
    """The API's manifest allows it; the container's answer is the last word."""
    deployed = stack()
    deployed.works = False
    _, headers, said = deployed.predict("a cat", prefer="wait=0")
    (queued,) = deployed.front.queue
    assert queued.body
    sent = json.loads(queued.body)
    sent["request"]["sampler"] = "nothing_of_ours"
    queued.body = json.dumps(sent).encode()
    deployed.settle()
    failed = deployed.ask("GET", headers["Location"])[2]
    assert (failed["status"], failed["error"]["code"]) == ("failed", "invalid_parameter")
    assert failed["id"] == said["id"]


def test_an_attempt_that_breaks_is_made_again(stack: Make, container: str) -> None:
    deployed = stack()
    deployed.works = False
    _, headers, _ = deployed.predict("a cat", prefer="wait=0")
    with Container() as broken:
        broken.then(503, GenerationFailed().problem().model_dump_json())
        deployed.front.container = broken.url
        deployed.front.work()
        deployed.deliver()
    deployed.front.container = container
    deployed.settle()
    assert [queued.inference_id[-2:] for queued in deployed.front.received] == [".1", ".2"]
    assert deployed.ask("GET", headers["Location"])[2]["status"] == "succeeded"


def test_a_job_that_nobody_finishes_ends_at_its_deadline(stack: Make) -> None:
    deployed = stack()
    deployed.works = False
    _, headers, _ = deployed.predict("a cat", prefer="wait=0")
    assert deployed.sweep(later=3600) == {}
    assert deployed.sweep(later=3600 + job_events.GRACE_SECONDS + 60) == {"failed": 1}
    failed = deployed.ask("GET", headers["Location"])[2]
    assert failed["error"]["code"] == "deadline_exceeded"
    deployed.settle()  # what comes later is refused
    assert deployed.ask("GET", headers["Location"])[2]["status"] == "failed"


def test_a_job_whose_notification_was_lost_ends_with_its_image(stack: Make) -> None:
    deployed = stack()
    deployed.works = False
    _, headers, _ = deployed.predict("a cat", prefer="wait=0")
    assert deployed.front.work()
    assert len(deployed.messages()) == 1  # and nobody is told
    assert deployed.sweep(later=3600 + job_events.GRACE_SECONDS + 60) == {"succeeded": 1}
    assert image(deployed.ask("GET", headers["Location"])[2]["image"])


def test_a_notification_that_comes_twice_changes_nothing(stack: Make) -> None:
    deployed = stack()
    deployed.works = False
    _, headers, _ = deployed.predict("a cat", prefer="wait=0")
    deployed.front.work()
    (record,) = deployed.messages()
    assert job_events.lambda_handler({"Records": [record]}, SimpleNamespace()) == {"succeeded": 1}
    first = deployed.ask("GET", headers["Location"])[2]
    assert job_events.lambda_handler({"Records": [record]}, SimpleNamespace()) == {"late": 1}
    again = deployed.ask("GET", headers["Location"])[2]
    assert (again["status"], again["finished_at"]) == ("succeeded", first["finished_at"])


def test_notifications_may_come_in_any_order(stack: Make, container: str) -> None:
    """A failure told again after the success of the next attempt, and the second of two jobs before the first."""
    deployed = stack()
    deployed.works = False
    tried, other = (deployed.predict("a cat", prefer="wait=0")[1]["Location"] for _ in range(2))
    with Container() as broken:
        broken.then(503, GenerationFailed().problem().model_dump_json())
        deployed.front.container = broken.url
        deployed.front.work()
        (failed,) = deployed.messages()
    deployed.front.container = container
    assert job_events.lambda_handler({"Records": [failed]}, SimpleNamespace()) == {"again": 1}
    while deployed.front.work():
        pass
    succeeded = deployed.messages()
    assert len(succeeded) == 2
    told = {"Records": [*reversed(succeeded), failed]}
    assert job_events.lambda_handler(told, SimpleNamespace()) == {"succeeded": 2, "late": 1}
    for place in (tried, other):
        assert image(deployed.ask("GET", place)[2]["image"])


def test_a_cancelled_job_stays_cancelled(stack: Make) -> None:
    deployed = stack()
    deployed.works = False
    _, headers, _ = deployed.predict("a cat", prefer="wait=0")
    assert deployed.ask("DELETE", headers["Location"])[0] == 202
    deployed.settle()
    assert deployed.ask("GET", headers["Location"])[2]["status"] == "cancelled"
    assert deployed.ask("POST", f"{headers['Location']}/cancel")[2]["code"] == "job_finished"
    newest = deployed.ask("GET", "/v1/jobs")[2]["jobs"][0]
    assert newest["id"] == headers["Location"].rpartition("/")[2]
    assert deployed.ask("DELETE", headers["Location"])[0] == 204
    assert deployed.ask("GET", headers["Location"])[0] == 404


def test_an_endpoint_that_takes_nothing_leaves_no_job_behind(stack: Make) -> None:
    deployed = stack()
    deployed.front.name = "gone"
    status, headers, said = deployed.predict("a cat")
    assert (status, said["code"], said["retryable"]) == (503, "runtime_unavailable", True)
    assert headers["Retry-After"]
    deployed.front.name = ENDPOINT
    assert deployed.sweep(later=1e6) == {}


def test_without_a_key_nothing_is_asked_of_anybody(stack: Make) -> None:
    deployed = stack()
    status, headers, said = deployed.ask("POST", "/v1/models/tiny:predict", {"prompt": "a cat"}, x_api_key="stolen")
    assert (status, said["code"], headers["WWW-Authenticate"]) == (401, "unauthorized", "Bearer")
    assert not deployed.front.received


# ---- in real time -------------------------------------------------------------------------------------------------


def test_a_real_time_endpoint_answers_at_once(stack: Make) -> None:
    deployed = stack(endpoint_type="real-time")
    status, headers, said = deployed.predict("a cat", prefer="respond-async")  # a preference it need not follow
    assert status == 200
    assert image(said["image"])
    assert deployed.now == 0.0
    assert deployed.ask("GET", headers["Location"])[2]["status"] == "succeeded"


def test_a_real_time_failure_is_told_as_the_container_told_it(stack: Make) -> None:
    deployed = stack(endpoint_type="real-time")
    with Container() as broken:
        broken.then(503, GenerationFailed().problem().model_dump_json())
        deployed.front.container = broken.url
        status, _, said = deployed.predict("a cat")
    assert (status, said["code"]) == (500, "poisoned")
    assert len(broken.received) == 3


# ---- capacity -----------------------------------------------------------------------------------------------------


def test_a_stored_policy_reaches_application_auto_scaling(stack: Make) -> None:
    deployed = stack(instances="0-2")
    path, target = "/v1/models/tiny/scaling-policy", f"endpoint/{ENDPOINT}/variant/AllTraffic"
    scaling = deployed.account.client("application-autoscaling")
    made_by_the_stack = {**ScalableEndpoint(ENDPOINT).target, "MinCapacity": 0, "MaxCapacity": 2}
    scaling.register_scalable_target(**made_by_the_stack)
    policy = {"min": 0, "max": 3, "metrics": {"gpu": {"target": 60}}}
    assert deployed.ask("PUT", path, policy)[0] == 201
    assert scale.lambda_handler({}, SimpleNamespace())["tiny"]["outcome"] == "reconciled"

    def limits() -> tuple[int, int]:
        (found,) = scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
        assert found["ResourceId"] == target
        return found["MinCapacity"], found["MaxCapacity"]

    assert limits() == (0, 3)
    policies = scaling.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"]
    tracking = {one["PolicyName"]: one.get("TargetTrackingScalingPolicyConfiguration") for one in policies}
    assert tracking[f"darkroom.{ENDPOINT}.gpu"]["TargetValue"] == 240.0  # four GPUs of a g4dn.12xlarge

    assert deployed.ask("DELETE", path)[0] == 204
    assert scale.lambda_handler({}, SimpleNamespace())["tiny"]["outcome"] == "reconciled"
    assert limits() == (0, 2)  # what the template says goes on
    policies = scaling.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"]
    assert {one["PolicyName"] for one in policies} == {f"darkroom.{ENDPOINT}.queue_depth", f"darkroom.{ENDPOINT}.wake"}
