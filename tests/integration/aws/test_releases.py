"""Releases without a cloud: the functions' own handlers, SageMaker's control plane in part, and two real runtimes."""

from __future__ import annotations

import functools
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import boto3
import pytest

from darkroom.bundles import catalog
from darkroom.bundles.manifest import EngineManifest
from darkroom.storage import open_store
from functions import release
from tests.fakes.control_plane import ControlPlane
from tests.integration.aws.conftest import ENDPOINT, Account, Stack, started

Make = Callable[..., Stack]


@dataclass
class Released:
    """A deployment whose endpoint changes as it is told; `containers` runs each version."""

    stack: Stack
    plane: ControlPlane
    containers: dict[str, str]
    old: str
    new: str

    @property
    def bundles(self) -> Any:
        return open_store("s3://engines")

    def tick(self, event: object = None) -> dict[str, Any]:
        """The rule's event, or the minute's."""
        said: dict[str, Any] = release.lambda_handler(event or {"source": "aws.events"}, SimpleNamespace())["tiny"]
        return said

    def shifted(self) -> None:
        """The endpoint has moved its traffic: requests reach the container of the version it was told."""
        self.plane.finish(ENDPOINT)
        self.stack.front.container = self.containers[self.running()]

    def running(self) -> str:
        """The version of the model that the endpoint's first variant runs."""
        sagemaker = boto3.client("sagemaker")
        config = sagemaker.describe_endpoint_config(EndpointConfigName=self.plane.endpoints[ENDPOINT].config)
        model = sagemaker.describe_model(ModelName=config["ProductionVariants"][0]["ModelName"])
        return str(model["PrimaryContainer"].get("Environment", {}).get("RUNTIME_VERSION", self.old))

    def settle(self) -> dict[str, Any]:
        """Go on, with an endpoint that does as it is told, until the release has settled."""
        for _ in range(12):
            said = self.tick()
            if said["phase"] == "settled":
                return said
            if self.plane.endpoints[ENDPOINT].status == "Updating":
                self.shifted()
            self.stack.settle()
        raise AssertionError(said)

    def serves(self) -> str:
        """The version that a caller's image comes from."""
        status, _, said = self.stack.predict("a large red heart", seed=5)
        assert status == 200, said
        return str(said["version"])

    def shown(self) -> dict[str, Any]:
        status, _, said = self.stack.ask("GET", "/v1/models/tiny/release")
        assert status == 200, said
        told: dict[str, Any] = said
        return told


@pytest.fixture(scope="module")
def second(account: Account) -> EngineManifest:
    """Another version of the tiny bundle, published and not served."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in account.environment.items():
            patch.setenv(name, value)
        bundles = open_store("s3://engines")
        first = catalog.load_manifest(bundles, "tiny")
        defaults = first.defaults.model_copy(update={"num_inference_steps": 3})
        made = first.model_copy(update={"defaults": defaults})
        made = made.model_copy(update={"version": made.content_version()})
        for file in first.files:
            key = catalog.bundle_key("tiny", first.version, file.path)
            if bundles.exists(key):  # of this target
                bundles.put(catalog.bundle_key("tiny", made.version, file.path), bundles.get(key))
        catalog.put_manifest(bundles, made)
    return made


@pytest.fixture(scope="module")
def second_container(
    account: Account, second: EngineManifest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    cache = str(tmp_path_factory.mktemp("second"))
    with started(account, RUNTIME_CACHE_DIR=cache, RUNTIME_VERSION=second.version) as running:
        yield running.url


@pytest.fixture
def released(
    stack: Make, account: Account, container: str, second_container: str, second: EngineManifest,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[..., Released]]:  # fmt: skip
    """Makes the deployment of a test, on an endpoint with so many `instances`, and puts everything back."""
    old = first_version(account)
    with ControlPlane(account.environment["AWS_ENDPOINT_URL"]) as plane:

        def make(instances: int = 1, **given: str) -> Released:
            made = stack(policies_url=f"dynamodb://{table(account)}", rollback_alarms="slow", **given)
            monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER", plane.url)
            catalog.set_current(open_store("s3://engines"), "tiny", old)
            boto3.client("sagemaker").create_endpoint(EndpointName=ENDPOINT, EndpointConfigName=ENDPOINT)
            plane.endpoints[ENDPOINT].instances = {"AllTraffic": instances}
            found = Released(made, plane, {old: container, second.version: second_container}, old, second.version)
            assert found.tick() == {"phase": "settled", "goal": old}
            return found

        yield make
        catalog.set_current(open_store("s3://engines"), "tiny", old)


@functools.cache
def first_version(account: Account) -> str:
    body = account.client("s3").get_object(Bucket="engines", Key="models/tiny/current.json")["Body"].read()
    return catalog.Pointer.model_validate_json(body).version


def table(account: Account) -> str:
    """A table of policies and releases that nothing is in."""
    from darkroom.database.records import TABLE

    dynamodb = account.client("dynamodb")
    name = f"policies-{secrets.token_hex(8)}"
    dynamodb.create_table(TableName=name, **TABLE)
    return name


def published(key: str) -> dict[str, Any]:
    """What EventBridge says of an object that was written."""
    detail = {"bucket": {"name": "engines"}, "object": {"key": key}}
    return {"source": "aws.s3", "detail-type": "Object Created", "detail": detail}


# ---- journeys -----------------------------------------------------------------------------------------------------


def test_publishing_releases_the_version_and_proves_it_with_an_image(released: Callable[..., Released]) -> None:
    deployed = released()
    assert deployed.serves() == deployed.old
    catalog.set_current(deployed.bundles, "tiny", deployed.new)
    assert deployed.tick(published("models/tiny/current.json"))["phase"] == "shifting"
    how = deployed.plane.endpoints[ENDPOINT].deployment["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]
    assert how["Type"] == "ALL_AT_ONCE"  # there is one instance
    assert deployed.tick()["phase"] == "shifting"
    deployed.shifted()
    assert deployed.tick()["phase"] == "proving"
    (proof,) = deployed.stack.front.queue
    deployed.stack.settle()
    assert deployed.tick() == {"phase": "settled", "goal": deployed.new}
    assert proof.body is not None
    assert b'"release"' in proof.body
    assert deployed.serves() == deployed.new
    assert deployed.shown()["rollback"] == deployed.old


def test_from_two_instances_on_a_canary_goes_first_under_alarms(released: Callable[..., Released]) -> None:
    deployed = released(instances=2)
    catalog.set_current(deployed.bundles, "tiny", deployed.new)
    deployed.tick()
    how = deployed.plane.endpoints[ENDPOINT].deployment
    assert how["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]["Type"] == "CANARY"
    assert how["AutoRollbackConfiguration"] == {"Alarms": [{"AlarmName": "slow"}]}
    deployed.settle()
    assert deployed.serves() == deployed.new


def test_rolling_back_is_one_call(released: Callable[..., Released]) -> None:
    deployed = released()
    catalog.set_current(deployed.bundles, "tiny", deployed.new)
    deployed.settle()
    status, _, said = deployed.stack.ask("POST", "/v1/models/tiny/rollback")
    assert (status, said["asked"]) == (202, {"version": deployed.old})
    assert deployed.settle()["goal"] == deployed.old
    assert deployed.serves() == deployed.old
    assert catalog.current_version(deployed.bundles, "tiny") == deployed.old
    assert deployed.stack.ask("POST", "/v1/models/tiny/rollback")[2]["code"] == "nothing_to_roll_back"


def test_73_a_version_that_does_not_serve_is_taken_back_by_itself(released: Callable[..., Released]) -> None:
    deployed = released()
    deployed.containers[deployed.new] = deployed.containers[deployed.old]  # it does not come up as it should
    catalog.set_current(deployed.bundles, "tiny", deployed.new)
    said = deployed.settle()
    assert said["goal"] == deployed.old
    assert said["why"] == f"Version {deployed.old} answered instead of {deployed.new}."
    assert catalog.current_version(deployed.bundles, "tiny") == deployed.old
    assert deployed.shown()["failed"] == {"version": deployed.new}
    assert deployed.serves() == deployed.old


def test_73_a_shift_that_an_alarm_ended_is_taken_back_by_itself(
    released: Callable[..., Released], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("darkroom.release.machine.GRACE_SECONDS", 0.0)
    deployed = released(instances=2)
    catalog.set_current(deployed.bundles, "tiny", deployed.new)
    deployed.tick()
    deployed.plane.go_back(ENDPOINT)
    assert deployed.settle() == {"phase": "settled", "goal": deployed.old, "why": "The endpoint went back by itself."}
    assert catalog.current_version(deployed.bundles, "tiny") == deployed.old


def test_65_a_pointer_to_a_bundle_that_is_not_there_never_reaches_the_endpoint(
    released: Callable[..., Released],
) -> None:
    deployed = released()
    deployed.plane.calls.clear()
    pointer = catalog.Pointer(version="f" * 16).model_dump_json().encode()
    deployed.bundles.put("models/tiny/current.json", pointer)
    said = deployed.settle()
    assert (said["goal"], said["why"]) == (deployed.old, "There is no such version of this model.")
    assert catalog.current_version(deployed.bundles, "tiny") == deployed.old
    assert deployed.plane.calls == []


def test_traffic_is_split_between_two_versions(released: Callable[..., Released]) -> None:
    deployed = released(endpoint_type="real-time")
    deployed.stack.front.by_variant = {"Beside": deployed.containers[deployed.new]}
    for percent, changes in ((10, "UpdateEndpoint"), (40, "UpdateEndpointWeightsAndCapacities")):
        body = {"version": deployed.old, "beside": {"version": deployed.new, "percent": percent}}
        assert deployed.stack.ask("PUT", "/v1/models/tiny/release", body)[0] == 202
        deployed.plane.calls.clear()
        assert deployed.settle()["goal"] == f"{deployed.old} with {percent} % to {deployed.new}"
        assert deployed.plane.calls[-1][0] == changes
        weights = deployed.plane.endpoints[ENDPOINT].weights
        assert weights == {"AllTraffic": 100.0 - percent, "Beside": float(percent)}
    assert deployed.stack.front.variants[-2:] == ["AllTraffic", "Beside"]
    deployed.stack.ask("PUT", "/v1/models/tiny/release", {"version": deployed.new})
    assert deployed.settle()["goal"] == deployed.new
    assert deployed.plane.endpoints[ENDPOINT].weights == {"AllTraffic": 100.0}


def test_82_a_change_of_the_stack_is_no_disagreement(released: Callable[..., Released]) -> None:
    deployed = released()
    catalog.set_current(deployed.bundles, "tiny", deployed.new)
    deployed.settle()
    boto3.client("sagemaker").update_endpoint(EndpointName=ENDPOINT, EndpointConfigName=ENDPOINT)
    deployed.plane.finish(ENDPOINT)  # its containers load what the pointer names
    assert deployed.tick() == {"phase": "settled", "goal": deployed.new}
    catalog.set_current(deployed.bundles, "tiny", deployed.old)
    assert deployed.settle()["goal"] == deployed.old


def test_82_what_another_hand_changed_is_brought_back(released: Callable[..., Released]) -> None:
    deployed = released()
    catalog.set_current(deployed.bundles, "tiny", deployed.new)
    deployed.settle()
    of_new = deployed.plane.endpoints[ENDPOINT].config
    deployed.stack.ask("POST", "/v1/models/tiny/rollback")
    deployed.settle()
    boto3.client("sagemaker").update_endpoint(EndpointName=ENDPOINT, EndpointConfigName=of_new)
    deployed.shifted()
    assert deployed.settle()["goal"] == deployed.old
    assert deployed.serves() == deployed.old


def test_a_service_that_does_not_answer_is_an_error_that_a_tick_makes_good(
    released: Callable[..., Released], monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed = released()
    catalog.set_current(deployed.bundles, "tiny", deployed.new)
    with monkeypatch.context() as patch:
        patch.setenv("DARKROOM_POLICIES_URL", "dynamodb://gone")
        with pytest.raises(RuntimeError, match="tiny"):
            deployed.tick()
    deployed.settle()
    assert deployed.serves() == deployed.new
