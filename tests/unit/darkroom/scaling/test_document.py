"""What a policy document may say, and how the rest is refused."""

from typing import Any

import pytest

from darkroom.errors import DarkroomError, DuplicateKey, InvalidPolicy
from darkroom.scaling import document
from darkroom.scaling.document import parse_policy, read_policy, read_policy_file, refuse_more_than, written

SMALLEST = {"min": 0, "max": 2}


def with_window(**members):
    return {**SMALLEST, "windows": [{"name": "w", "hours": "09:00-17:00", "min": 1, **members}]}


def with_cron(cron, **members):
    return {**SMALLEST, "windows": [{"name": "w", "cron": cron, "min": 1, **(members or {"duration": "1h"})}]}


def test_the_smallest_document_is_complete():
    policy = parse_policy(SMALLEST)
    assert (policy.timezone, policy.windows) == ("UTC", ())
    assert [name for name, _ in policy.metrics.chosen()] == ["queue_depth"]


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"min": 3, "max": 2}, "/min"),
        ({"max": 2}, "/min"),
        ({"min": 0, "max": 0}, "/max"),
        ({"min": True, "max": 2}, "/min"),
        ({"min": 0.5, "max": 2}, "/min"),
        ({"min": 0, "max": "2"}, "/max"),
        ({"min": 0, "max": 10**9}, "/max"),
        ({**SMALLEST, "colour": "red"}, "/colour"),
        ({**SMALLEST, "timezone": "Mars/Olympus"}, "/timezone"),
        ({**SMALLEST, "scale_to_zero_after": "soon"}, "/scale_to_zero_after"),
        ({**SMALLEST, "scale_to_zero_after": "1s"}, "/scale_to_zero_after"),
        ({**SMALLEST, "scale_to_zero_after": ""}, "/scale_to_zero_after"),
        ({**SMALLEST, "stop_at": "2026-02-30T10:00"}, "/stop_at"),
        ({**SMALLEST, "stop_at": "2026-03-29T02:30", "timezone": "Europe/Berlin"}, "/stop_at"),
        ({**SMALLEST, "metrics": {}}, "/metrics"),
        ({**SMALLEST, "metrics": {"gpu": 101}}, "/metrics/gpu/target"),
        ({**SMALLEST, "metrics": {"gpu": {"target": 0}}}, "/metrics/gpu/target"),
        ({**SMALLEST, "metrics": {"gpu": {"target": 50, "statistic": "p95"}}}, "/metrics/gpu/statistic"),
        (
            {**SMALLEST, "metrics": {"queue_depth": {"target": 1, "statistic": "maximum"}}},
            "/metrics/queue_depth/statistic",
        ),
        ({**SMALLEST, "metrics": {"cpu": {"target": 50, "scale_in_cooldown": "2h"}}}, "/metrics/cpu/scale_in_cooldown"),
        ({**SMALLEST, "metrics": {"disk": 50}}, "/metrics/disk"),
        (with_window(min=3), "/windows/0/min"),
        (with_window(min=2, max=1), "/windows/0/min"),
        (with_window(name="Not A Name"), "/windows/0/name"),
        (with_window(days="funday"), "/windows/0/days"),
        (with_window(hours="09:00-09:00"), "/windows/0/hours"),
        (with_window(hours="24:00-24:00"), "/windows/0/hours"),
        (with_window(hours="25:00-26:00"), "/windows/0/hours"),
        (with_window(hours="9-17"), "/windows/0/hours"),
        (with_window(duration="1h"), "/windows/0/hours"),
        (with_window(cron="0 9 * * *"), "/windows/0/hours"),
        (with_window(timezone="Nowhere"), "/windows/0/timezone"),
        (with_window(exceptions=["2026-02-30"]), "/windows/0/exceptions/0"),
        (with_window(**{"from": "2026-02-02", "to": "2026-02-01"}), "/windows/0/to"),
        (with_window(**{"from": "2026-01-05", "to": "2026-01-06"}, days="sun"), "/windows/0/to"),
        ({**SMALLEST, "windows": [{"name": "w", "hours": "09:00-17:00"}]}, "/windows/0/min"),
        ({**SMALLEST, "windows": [{"name": "w", "hours": "09:00-17:00", "min": 1}] * 2}, "/windows/1/name"),
        (with_cron("0 0 31 2 *"), "/windows/0/cron"),
        (with_cron("0 0 30 2 *"), "/windows/0/cron"),
        (with_cron("0 0 31 4,6,9,11 *"), "/windows/0/cron"),
        (with_cron("banana"), "/windows/0/cron"),
        (with_cron("60 0 * * *"), "/windows/0/cron"),
        (with_cron("0 0 9 * * *"), "/windows/0/cron"),
        (with_cron("0 9 * * *", duration="0m"), "/windows/0/duration"),
        (with_cron("0 9 * * *", duration="90s"), "/windows/0/duration"),
        (with_cron("0 9 * * *", duration="8d"), "/windows/0/duration"),
        (with_cron("0 9 * * *", until="0 9 * * *"), "/windows/0/until"),
        (with_cron("0 9 * * *", until="0 9 31 2 *"), "/windows/0/until"),
        (with_cron("0 9 * * *", until="0 17 * * *", duration="1h"), "/windows/0/cron"),
        (with_cron("0 9 * * *", days="mon", duration="1h"), "/windows/0/days"),
        ({**SMALLEST, "schedule": [{"at": "09:00"}]}, "/schedule/0/replicas"),
        ({**SMALLEST, "schedule": [{"at": "09:00", "replicas": 1, "min": 1}]}, "/schedule/0/replicas"),
        ({**SMALLEST, "schedule": [{"at": "09:00", "min": 3}]}, "/schedule/0/min"),
        ({**SMALLEST, "schedule": [{"replicas": 1}]}, "/schedule/0/at"),
        ({**SMALLEST, "schedule": [{"at": "9 o'clock", "replicas": 1}]}, "/schedule/0/at"),
        ([], None),
        (None, None),
        ({**SMALLEST, "metrics": {"gpu": float("nan")}}, "/metrics/gpu/target"),
    ],
)
def test_what_cannot_be_followed_is_refused_with_its_field(document, field):
    with pytest.raises(InvalidPolicy) as refused:
        parse_policy(document)
    assert refused.value.field == field
    assert refused.value.problem().status == 422
    assert refused.value.detail.endswith(".")


def test_yaml_scalars_are_what_they_look_like():
    """YAML 1.1 reads 16:00 as 960, 2026-01-01 as a date object and no as false."""
    policy = read_policy(
        b"min: 0\nmax: 2\nschedule:\n  - {at: 16:00, replicas: 1}\n"
        b"windows:\n  - {name: no, hours: 10:00-12:00, min: 1, from: 2026-01-01}\n",
        "yaml",
    )
    assert policy.schedule[0].at == "16:00"
    assert policy.windows[0].name == "no"


@pytest.mark.parametrize(
    "body",
    [
        b"min: [",
        b"a: &x [1]\nb: *x",
        b"\xff\xfe",
        b"? [1]\n: 2",
        b"min: !!python/object:os.system x\nmax: 1",
        b"min: 0\nmax: 2\n---\nmin: 1\nmax: 2\n",
        b"[" * 5000,
        b"x" * 300_000,
    ],
)
def test_unreadable_yaml_is_one_sentence(body):
    with pytest.raises(InvalidPolicy):
        read_policy(body, "yaml")


def test_duplicate_members_are_refused_in_both_forms():
    for body, form in ((b'{"min": 0, "min": 1, "max": 2}', "json"), (b"min: 0\nmin: 1\nmax: 2", "yaml")):
        with pytest.raises(DuplicateKey):
            read_policy(body, form)


def test_malformed_json_is_a_problem_of_its_own():
    with pytest.raises(DarkroomError) as refused:
        read_policy(b"{", "json")
    assert refused.value.status == 400


def test_a_policy_is_written_as_it_was_given():
    document = {
        "min": 0,
        "max": 4,
        "timezone": "Asia/Shanghai",
        "windows": [{"name": "w", "cron": "0 9 * * 1-5", "duration": "1h30m", "min": 1, "from": "2026-01-01"}],
        "metrics": {"gpu": {"target": 50.0, "scale_in_cooldown": "10m"}},
        "scale_to_zero_after": "20s",
        "stop_at": "2026-12-24T18:00:00",
    }
    policy = parse_policy(document)
    assert written(policy) == document
    assert parse_policy(written(policy)) == policy


def test_every_example_is_a_policy(request):
    examples = request.config.rootpath / "examples"
    found = sorted(path for path in examples.iterdir() if path.suffix in (".yaml", ".json"))
    assert {path.stem for path in found} >= {"seeds", "smallest", "office-hours", "two-continents", "demonstration"}
    for path in found:
        assert read_policy_file(path).max >= 1


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"min": 1000, "max": 1000}, "/max"),
        ({"max": 9}, "/max"),
        ({"max": 8, "windows": [{"name": "w", "hours": "09:00-10:00", "min": 8, "max": 9}]}, "/windows/0/max"),
        (
            {"max": 8, "schedule": [{"at": "09:00", "replicas": 8}, {"at": "10:00", "replicas": 9}]},
            "/schedule/1/replicas",
        ),
    ],
)
def test_more_replicas_than_there_is_room_for(asked: dict[str, Any], field: str) -> None:
    policy = parse_policy({"min": 0, **asked})
    refuse_more_than(policy, 1000)
    with pytest.raises(InvalidPolicy, match="room for at most 8") as refused:
        refuse_more_than(policy, 8)
    assert refused.value.field == field


def test_windows_that_open_too_often_all_together() -> None:
    """Fifty that open every minute took 2.8 s a week to follow; one may."""
    every_minute = {"cron": "* * * * *", "duration": "1m", "min": 1}
    assert parse_policy({"min": 0, "max": 1, "windows": [{"name": "w", **every_minute}]})
    windows = [{"name": "daily", "hours": "09:00-10:00", "min": 1}, {"name": "w", **every_minute}]
    with pytest.raises(InvalidPolicy, match="at most 1440 times a day") as refused:
        parse_policy({"min": 0, "max": 1, "windows": windows})
    assert refused.value.field == "/windows/1"


@pytest.mark.parametrize("text", ["- " * 100_000 + "1", "[" * 100_000, "a:\n" + "- 1\n" * 60_000, "? " * 100_000])
def test_yaml_that_is_deep_or_long_is_refused_before_it_is_built(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document._PolicyLoader, "get_single_data", lambda _: pytest.fail("it was built"))
    with pytest.raises(InvalidPolicy, match="modest nesting and length"):
        read_policy(text.encode(), "yaml")
