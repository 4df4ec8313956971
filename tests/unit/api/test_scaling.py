"""The scaling routes as callers ask them; the numbers are rows of the table of faults."""

from types import SimpleNamespace

import pytest

from api.app import ControlPlane
from darkroom.settings import Settings
from tests.fakes import api

POLICY = {
    "min": 1,
    "max": 4,
    "timezone": "Asia/Shanghai",
    "windows": [
        {"name": "day", "hours": "09:00-17:00", "min": 2},
        {"name": "lunch", "hours": "12:00-13:00", "min": 1, "max": 2, "priority": 5},
    ],
}
PATH, PLAN = "/v1/models/crayon/scaling-policy", "/v1/models/crayon/scaling-plan"


@pytest.fixture
def wired(tmp_path):
    with api.services(tmp_path, Settings(api_keys="ann=1,bob=2,eve=3", admins="ann, bob")) as services:
        yield services


@pytest.fixture
def call(wired):
    app = ControlPlane(wired)

    def send(method, path, body=None, *, query=None, key="1", content_type="application/json", **headers):
        sent = {"content-type": content_type, "x-api-key": key}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        answer = api.ask(app, method, path, body, params=query, headers=sent)
        told = answer.json() if answer.content else None
        return SimpleNamespace(status=answer.status_code, headers=answer.headers, told=told)

    return send


def test_a_policy_comes_back_as_it_was_written(call):
    assert call("GET", PATH).told["code"] == "policy_not_found"
    made = call("PUT", PATH, POLICY)
    assert (made.status, made.headers["ETag"], made.told) == (201, '"1"', POLICY)
    got = call("GET", "/v1/models/m/scaling-policy")
    assert (got.status, got.headers["ETag"], got.told) == (200, '"1"', POLICY)
    replaced = call("PUT", PATH, {"min": 0, "max": 2})
    assert (replaced.status, replaced.headers["ETag"]) == (200, '"2"')
    assert call("DELETE", PATH).status == 204
    assert call("GET", PATH).status == 404
    assert call("DELETE", PATH).status == 404


def test_yaml_is_read_too(call):
    said = "min: 1\nmax: 4\nschedule:\n  - {days: mon-fri, at: 16:00, replicas: 1}\n"
    assert call("PUT", PATH, said, content_type="application/yaml; charset=utf-8").status == 201
    assert call("GET", PATH).told["schedule"][0]["at"] == "16:00"
    assert call("PUT", PATH, said, content_type="text/plain").status == 415


def test_only_who_saw_the_newest_version_replaces_it(call):
    call("PUT", PATH, POLICY, if_none_match="*")
    assert call("PUT", PATH, {"min": 0, "max": 1}, if_none_match="*").status == 412
    assert call("PUT", PATH, {"min": 0, "max": 1}, if_match='"1"').headers["ETag"] == '"2"'
    for stale in ('"1"', 'W/"2"', '"7", "1"'):
        refused = call("PUT", PATH, POLICY, if_match=stale)
        assert (refused.status, refused.told["code"]) == (412, "precondition_failed")
        assert call("DELETE", PATH, if_match=stale).status == 412
    assert call("GET", PATH).told == {"min": 0, "max": 1}
    assert call("PUT", PATH, POLICY, if_match="*").status == 200
    assert call("DELETE", PATH, if_match='"9", "3"').status == 204
    assert call("PUT", PATH, POLICY, if_match="*").status == 412
    for senseless in ({"if_match": "3"}, {"if_none_match": '"3"'}, {"if_match": "*", "if_none_match": "*"}):
        assert call("PUT", PATH, POLICY, **senseless).told["code"] == "invalid_parameter"


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"min": 5}, "/min"),
        ({"timezone": "Mars/Olympus"}, "/timezone"),
        ({"windows": [{"name": "w", "cron": "0 0 30 2 *", "duration": "1h", "min": 2}]}, "/windows/0/cron"),
        ({"windows": [{"name": "w", "hours": "09:00-10:00", "min": 6}]}, "/windows/0/min"),
        ({"metrics": {"gpu": 140}}, "/metrics/gpu/target"),
        ({"mim": 1}, "/mim"),
    ],
)
def test_rows_78_and_79_what_cannot_be_followed_is_refused_and_the_old_policy_stays(call, changed, field):
    call("PUT", PATH, POLICY)
    refused = call("PUT", PATH, {**POLICY, **changed})
    assert (refused.status, refused.told["code"], refused.told["field"]) == (422, "invalid_policy", field)
    kept = call("GET", PATH)
    assert (kept.told, kept.headers["ETag"]) == (POLICY, '"1"')


@pytest.mark.parametrize(
    ("kind", "policy", "field"),
    [
        ("async", {"min": 0, "max": 2, "metrics": {"requests_per_second": 5}}, "/metrics/requests_per_second"),
        ("real-time", {"min": 0, "max": 2}, "/min"),
    ],
)
def test_what_sagemaker_cannot_follow_is_refused_before_it_is_stored(tmp_path, kind, policy, field):
    settings = Settings(endpoints="crayon=darkroom-crayon", endpoint_type=kind)
    with api.services(tmp_path, settings) as services:
        app = ControlPlane(services)
        refused = api.ask(app, "PUT", PATH, policy, headers={"content-type": "application/json"})
        assert (refused.status_code, refused.json()["code"], refused.json()["field"]) == (422, "invalid_policy", field)
        assert api.ask(app, "GET", PATH).status_code == 404
        services.policies.put("crayon", policy, by="an older release")
        planned = api.ask(app, "GET", PLAN)
        assert (planned.status_code, planned.json()["field"]) == (422, field)


def test_a_body_that_is_none(call):
    assert call("PUT", PATH, '{"min": 0, "min": 1, "max": 1}').told["code"] == "duplicate_key"
    assert call("PUT", PATH, "{").told["code"] == "malformed_json"
    assert call("PUT", PATH, "min: [", content_type="text/yaml").told["code"] == "invalid_policy"
    assert call("PUT", PATH, f'{{"min": {" " * 300_000}}}').told["code"] == "payload_too_large"


def test_models_and_keys_are_asked_for_first(call):
    assert call("PUT", "/v1/models/nobody/scaling-policy", POLICY).told["code"] == "model_not_found"
    for method in ("GET", "PUT", "DELETE"):
        assert call(method, PATH, POLICY, key="wrong").status == 401
    assert call("GET", PLAN, key="wrong").status == 401
    assert call("POST", PATH, POLICY).headers["Allow"] == "GET, HEAD, PUT, DELETE"


def test_who_changed_what(call):
    call("PUT", PATH, POLICY)
    call("DELETE", PATH, key="2")
    changes = call("GET", f"{PATH}/changes").told["changes"]
    assert [(one["version"], one["by"]) for one in changes] == [(1, "ann"), (2, "bob")]
    assert changes[0]["new"] == changes[1]["old"] == POLICY
    assert "new" not in changes[1]


def test_row_77_the_plan_says_what_holds_when_and_which_window_wins(call):
    call("PUT", PATH, POLICY)
    told = call("GET", PLAN, query={"from": "2026-11-16", "to": "2026-11-17", "instance": "g4dn.xlarge"}).told
    assert [(one["local"][11:16], one["min"], one["max"], one.get("window")) for one in told["breakpoints"]] == [
        ("00:00", 1, 4, None),
        ("09:00", 2, 4, "day"),
        ("12:00", 1, 2, "lunch"),
        ("13:00", 2, 4, "day"),
        ("17:00", 1, 4, None),
    ]
    assert "priority 5 outranks day (priority 0)" in told["breakpoints"][2]["why"]
    assert (told["from"], told["to"]) == ("2026-11-15T16:00:00Z", "2026-11-16T16:00:00Z")
    assert told["estimate"]["replica_hours"] == {"least": 31.0, "most": 94.0}
    assert told["estimate"]["cost"]["most"] == pytest.approx(94 * told["estimate"]["per_hour"], abs=0.01)


def test_row_76_the_plan_skips_an_hour_that_the_clock_skips_and_opens_once_in_one_it_repeats(call):
    night = {"name": "night", "cron": "30 2 * * *", "duration": "15m", "min": 2}
    call("PUT", PATH, {"min": 0, "max": 3, "timezone": "Europe/Berlin", "windows": [night]})

    def opens(start, end):
        told = call("GET", PLAN, query={"from": start, "to": end}).told
        return [one["local"] for one in told["breakpoints"] if one.get("window") == "night"]

    assert opens("2026-03-28T12:00", "2026-03-30T12:00") == ["2026-03-30T02:30:00+02:00"]
    assert opens("2026-10-24T12:00", "2026-10-25T12:00") == ["2026-10-25T02:30:00+02:00"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"from": "today"}, "/from"),
        ({"from": "2026-01-02", "to": "2026-01-01"}, "/to"),
        ({"from": "2026-01-01", "to": "2026-12-31"}, "/to"),
        ({"from": "9999-12-31T23:59-20:00"}, "/from"),
        ({"from": "9999-12-30"}, "/to"),
        ({"instance": "gold"}, "/instance"),
    ],
)
def test_a_plan_that_cannot_be(call, query, field):
    call("PUT", PATH, POLICY)
    refused = call("GET", PLAN, query=query)
    assert (refused.status, refused.told["code"], refused.told["field"]) == (422, "invalid_parameter", field)


def test_a_plan_needs_a_policy_and_begins_now(call):
    assert call("GET", PLAN).told["code"] == "policy_not_found"
    call("PUT", PATH, POLICY)
    assert call("GET", PLAN).status == 200
