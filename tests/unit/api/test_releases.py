"""The release routes as callers ask them; numbers are rows of the table of faults."""

import json
import secrets
from collections.abc import Iterator
from dataclasses import replace

import boto3
import pytest

from api.app import ControlPlane
from api.manifests import Manifests
from darkroom.database.records import TABLE
from darkroom.release.dynamodb import DynamoReleaseStore
from darkroom.release.state import Phase, Release, TrafficSplit
from darkroom.settings import Settings
from darkroom.storage.directory import DirectoryStore
from tests.fakes import api, aws, bundle

PATH, ROLLBACK = "/v1/models/crayon/release", "/v1/models/crayon/rollback"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with aws.serving() as url:
        yield url


@pytest.fixture
def releases(endpoint, monkeypatch):
    for name, value in aws.environment(endpoint).items():
        monkeypatch.setenv(name, value)
    table = f"api-releases-{secrets.token_hex(8)}"
    boto3.client("dynamodb").create_table(TableName=table, **TABLE)
    store = DynamoReleaseStore(table, wall=lambda: 1_800_000_000.0)
    yield store
    store.close()


@pytest.fixture
def store(tmp_path):
    return DirectoryStore(tmp_path / "store")


@pytest.fixture
def old(store, tmp_path):
    return bundle.publish(store, tmp_path).version


@pytest.fixture
def new(store, tmp_path):
    return bundle.publish(store, tmp_path, checkpoint="1" * 64).version


@pytest.fixture
def wired(tmp_path, store, old, new, releases):
    settings = Settings(api_keys="ann=1,bob=2,eve=3", admins="ann, bob", endpoint_type="real-time")
    with api.services(tmp_path, settings, manifests=Manifests(store), releases=releases) as services:
        yield services


def call(wired, method, path, body=None, *, key="1", **headers):
    sent = {"content-type": "application/json", "x-api-key": key}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    answer = api.ask(ControlPlane(wired), method, path, body, headers=sent)
    return answer.status_code, answer.headers, answer.json()


@pytest.fixture
def served(releases, old, new):
    """`new` is served, `old` was before it."""
    traffic = TrafficSplit(new)
    release = Release(traffic, traffic, new, since=1_800_000_000.0, earlier=(old,), number=2)
    releases.save(releases.take("crayon"), release)
    return release


def test_a_release_is_shown(wired, served, old, new):
    status, headers, said = call(wired, "GET", PATH)
    assert (status, headers["ETag"]) == (200, '"0"')
    assert said == {
        "model": "crayon",
        "phase": "settled",
        "since": "2027-01-15T08:00:00Z",
        "goal": {"version": new},
        "proven": {"version": new},
        "rollback": old,
    }


def test_a_failed_release_says_why(wired, releases, served, old, new):
    failed = replace(served, why="It drew nothing.", failed=TrafficSplit(old, new, 5), phase=Phase.STUCK)
    releases.save(releases.take("crayon"), failed)
    said = call(wired, "GET", PATH)[2]
    assert (said["phase"], said["why"]) == ("stuck", "It drew nothing.")
    assert said["failed"] == {"version": old, "beside": {"version": new, "percent": 5}}


def test_a_version_is_asked_for(wired, releases, served, old, new):
    status, headers, said = call(wired, "PUT", PATH, {"version": old}, if_match='"0"')
    assert (status, headers["ETag"]) == (202, '"1"')
    assert (said["asked"], said["goal"]) == ({"version": old}, {"version": new})
    assert releases.get("crayon").request.traffic == TrafficSplit(old)


def test_traffic_is_split(wired, releases, served, old, new):
    body = {"version": new, "beside": {"version": old, "percent": 25}}
    assert call(wired, "PUT", PATH, body)[0] == 202
    assert releases.get("crayon").request.traffic == TrafficSplit(new, old, 25)


def test_a_rollback_is_one_call_and_repeating_it_changes_nothing(wired, releases, served, old):
    for number in (1, 2):
        status, headers, said = call(wired, "POST", ROLLBACK)
        assert (status, headers["ETag"]) == (202, f'"{number}"')
        assert said["asked"] == {"version": old}
    going = replace(served, goal=TrafficSplit(old), phase=Phase.SHIFTING, back=True, answered=2)
    releases.save(releases.take("crayon"), going)
    assert call(wired, "POST", ROLLBACK)[2]["asked"] == {"version": old}


def test_a_rollback_takes_back_a_request_that_has_not_begun(wired, served, old, new):
    call(wired, "PUT", PATH, {"version": new, "beside": {"version": old, "percent": 25}})
    assert call(wired, "POST", ROLLBACK)[2]["asked"] == {"version": new}


def test_a_rollback_that_leads_nowhere_is_refused(wired, releases, served):
    releases.save(releases.take("crayon"), replace(served, earlier=()))
    status, _, said = call(wired, "POST", ROLLBACK)
    assert (status, said["code"]) == (409, "nothing_to_roll_back")


def test_who_asked_for_what(wired, served, old, new):
    call(wired, "PUT", PATH, {"version": old})
    call(wired, "POST", ROLLBACK, key="2")
    changes = call(wired, "GET", f"{PATH}/changes")[2]["changes"]
    assert [(one["number"], one["by"], one["asked"]["version"]) for one in changes] == [
        (1, "ann", old),
        (2, "bob", old),
    ]


def test_82_of_two_operators_the_second_is_told(wired, releases, served, old):
    assert call(wired, "PUT", PATH, {"version": old}, if_match='"0"')[0] == 202
    for refused in (
        call(wired, "POST", ROLLBACK, if_match='"0"'),
        call(wired, "PUT", PATH, {"version": old}, if_match='"0"'),
    ):
        assert (refused[0], refused[2]["code"]) == (412, "precondition_failed")
    assert releases.get("crayon").request.number == 1


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        ("{", 400, "malformed_json", None),
        ({}, 422, "invalid_parameter", "/version"),
        ({"version": "../../x"}, 422, "invalid_parameter", "/version"),
        ({"version": "f" * 16}, 422, "invalid_parameter", "/version"),
        ({"version": "NEW", "traffic": 1}, 422, "unknown_field", "/traffic"),
        ({"version": "NEW", "beside": {"version": "OLD", "percent": 0}}, 422, "out_of_range", "/beside/percent"),
        ({"version": "NEW", "beside": {"version": "OLD", "percent": True}}, 422, "invalid_type", "/beside/percent"),
        ({"version": "NEW", "beside": {"version": "NEW", "percent": 5}}, 422, "invalid_parameter", "/beside/version"),
        (
            {"version": "NEW", "beside": {"version": "f" * 16, "percent": 5}},
            422,
            "invalid_parameter",
            "/beside/version",
        ),
    ],
)
def test_what_cannot_be_released_is_refused_and_changes_nothing(
    wired, releases, served, old, new, body, status, code, field
):
    text = body if isinstance(body, str) else json.dumps(body).replace("OLD", old).replace("NEW", new)
    answer = call(wired, "PUT", PATH, text)
    assert (answer[0], answer[2]["code"], answer[2].get("field")) == (status, code, field)
    assert releases.get("crayon").request is None


def test_an_asynchronous_endpoint_cannot_be_split(wired, served, old, new):
    asynchronous = replace(wired, settings=Settings(api_keys="ann=1", admins="ann", endpoint_type="async"))
    status, _, said = call(asynchronous, "PUT", PATH, {"version": new, "beside": {"version": old, "percent": 5}})
    assert (status, said["field"]) == (422, "/beside")
    assert "one version at a time" in said["detail"]


@pytest.mark.parametrize(
    ("method", "path"), [("GET", PATH), ("PUT", PATH), ("POST", ROLLBACK), ("GET", f"{PATH}/changes")]
)
def test_releases_are_for_those_with_a_key_and_models_that_are_released(wired, method, path):
    assert call(wired, method, path, key="stolen")[0] == 401
    assert call(wired, method, path.replace("crayon", "nobody"))[2]["code"] == "model_not_found"
    assert call(wired, method, path)[2]["code"] == "release_not_found"  # not looked at yet
    here = call(replace(wired, releases=None), method, path)
    assert (here[0], here[2]["code"]) == (404, "release_not_found")
    assert "python -m local.versions" in here[2]["detail"]
