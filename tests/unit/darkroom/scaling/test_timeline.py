"""What holds when, and why: overlaps, pins, stops, and the hours that clocks skip and repeat."""

from datetime import UTC, datetime, timedelta

import pytest

from darkroom.errors import InvalidPolicy
from darkroom.scaling.document import parse_policy, read_policy_file
from darkroom.scaling.timeline import timeline
from darkroom.scaling.wall_clock import firing, possible_firings, reached


def utc(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def wall(text):
    return datetime.fromisoformat(text)


def points(document, start, end):
    line = timeline(parse_policy({"min": 0, "max": 4, **document}), utc(start), utc(end))
    return [(f"{point.at:%m-%d %H:%M}", point.min, point.max) for point in line.breakpoints]


# ---- the clock -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "skipped", "end_of_gap"),
    [
        ("America/New_York", "2026-03-08T02:30", "2026-03-08T07:00"),
        ("Europe/Berlin", "2026-03-29T02:00", "2026-03-29T01:00"),
        ("Australia/Lord_Howe", "2026-10-04T02:15", "2026-10-03T15:30"),  # a gap of half an hour
        ("Pacific/Apia", "2011-12-30T12:00", "2011-12-30T10:00"),  # a whole day
    ],
)
def test_a_skipped_time_never_fires_and_is_reached_when_the_gap_ends(zone, skipped, end_of_gap):
    assert firing(wall(skipped), zone) is None
    assert reached(wall(skipped), zone) == utc(end_of_gap)


def test_a_repeated_time_fires_once_on_its_first_pass():
    assert firing(wall("2026-11-01T01:30"), "America/New_York") == utc("2026-11-01T05:30")
    assert firing(wall("2026-04-05T01:45"), "Australia/Lord_Howe") == utc("2026-04-04T14:45")
    assert len(possible_firings(wall("2026-11-01T01:30"), "America/New_York")) == 2


def test_shanghai_has_no_jumps():
    assert firing(wall("2026-03-08T02:30"), "Asia/Shanghai") == utc("2026-03-07T18:30")


# ---- daylight saving -------------------------------------------------------------------------------------------------


def test_a_cron_opening_in_the_gap_is_skipped():
    document = {
        "timezone": "America/New_York",
        "windows": [{"name": "w", "cron": "30 2 * * *", "duration": "1h", "min": 1}],
    }
    assert points(document, "2026-03-07T00:00", "2026-03-10T00:00") == [
        ("03-07 00:00", 0, 4),
        ("03-07 07:30", 1, 4),
        ("03-07 08:30", 0, 4),
        ("03-09 06:30", 1, 4),
        ("03-09 07:30", 0, 4),
    ]


def test_a_cron_opening_in_the_repeated_hour_fires_once():
    document = {
        "timezone": "America/New_York",
        "windows": [{"name": "w", "cron": "30 1 * * *", "duration": "10m", "min": 1}],
    }
    assert points(document, "2026-11-01T00:00", "2026-11-02T00:00")[1:] == [
        ("11-01 05:30", 1, 4),
        ("11-01 05:40", 0, 4),
    ]


def test_hours_in_the_gap_begin_when_it_ends():
    document = {"timezone": "America/New_York", "windows": [{"name": "w", "hours": "02:30-05:00", "min": 1}]}
    assert points(document, "2026-03-08T00:00", "2026-03-09T00:00")[1:] == [
        ("03-08 07:00", 1, 4),
        ("03-08 09:00", 0, 4),
    ]


def test_hours_within_the_gap_do_not_open():
    document = {"timezone": "America/New_York", "windows": [{"name": "w", "hours": "02:10-02:50", "min": 1}]}
    assert points(document, "2026-03-08T00:00", "2026-03-09T00:00") == [("03-08 00:00", 0, 4)]


def test_a_closing_in_the_gap_closes_when_it_ends():
    document = {
        "timezone": "America/New_York",
        "windows": [{"name": "w", "cron": "0 22 * * *", "until": "30 2 * * *", "min": 1}],
    }
    assert points(document, "2026-03-08T04:00", "2026-03-08T20:00") == [("03-08 04:00", 1, 4), ("03-08 07:00", 0, 4)]


# ---- overlaps, pins, stops -------------------------------------------------------------------------------------------


def test_overlaps_go_by_priority_then_by_order_and_are_explained():
    policy = parse_policy(
        {
            "min": 0,
            "max": 9,
            "windows": [
                {"name": "first", "hours": "08:00-18:00", "min": 1},
                {"name": "second", "hours": "10:00-16:00", "min": 2},
                {"name": "urgent", "hours": "12:00-13:00", "min": 5, "priority": 1},
            ],
        }
    )
    line = timeline(policy, utc("2026-01-05"), utc("2026-01-06"))
    assert [(point.at.hour, point.window) for point in line.breakpoints] == [
        (0, None),
        (8, "first"),
        (10, "first"),
        (12, "urgent"),
        (13, "first"),
        (16, "first"),
        (18, None),
    ]
    assert "outranks second (listed later)" in line.breakpoints[2].why
    assert "outranks first (priority 0), second (priority 0)" in line.breakpoints[3].why
    assert [point.at.hour for point in line.changes()] == [0, 8, 12, 13, 18]


def test_windows_cross_midnight_and_keep_their_opening_day():
    document = {"windows": [{"name": "w", "days": "fri", "hours": "22:00-06:00", "min": 1}]}
    assert points(document, "2026-01-05T00:00", "2026-01-12T00:00")[1:] == [
        ("01-09 22:00", 1, 4),
        ("01-10 06:00", 0, 4),
    ]


def test_an_interval_may_begin_inside_a_window():
    document = {"windows": [{"name": "w", "hours": "22:00-06:00", "min": 1}]}
    assert points(document, "2026-01-05T01:00", "2026-01-05T08:00") == [("01-05 01:00", 1, 4), ("01-05 06:00", 0, 4)]


def test_dates_bound_a_window_and_exceptions_spare_it():
    window = {"name": "w", "hours": "09:00-10:00", "min": 1, "from": "2026-01-06", "to": "2026-01-08"}
    document = {"windows": [{**window, "exceptions": ["2026-01-07"]}]}
    opened = [at for at, low, _ in points(document, "2026-01-01T00:00", "2026-02-01T00:00") if low]
    assert opened == ["01-06 09:00", "01-08 09:00"]


def test_the_latest_pin_holds_beneath_windows_and_from_before_the_interval():
    document = {
        "schedule": [{"at": "09:00", "replicas": 2}, {"at": "16:00", "min": 1}],
        "windows": [{"name": "w", "hours": "10:00-11:00", "min": 3}],
    }
    assert points(document, "2026-01-05T00:00", "2026-01-06T00:00") == [
        ("01-05 00:00", 1, 4),
        ("01-05 09:00", 2, 2),
        ("01-05 10:00", 3, 4),
        ("01-05 11:00", 2, 2),
        ("01-05 16:00", 1, 4),
    ]


def test_stop_at_ends_everything():
    document = {"min": 1, "stop_at": "2026-01-05T12:00", "windows": [{"name": "w", "hours": "09:00-18:00", "min": 3}]}
    assert points(document, "2026-01-05T10:00", "2026-01-07T00:00") == [("01-05 10:00", 3, 4), ("01-05 12:00", 0, 0)]


def test_the_seeds_example(request):
    policy = read_policy_file(request.config.rootpath / "examples" / "seeds.yaml")
    line = timeline(policy, utc("2026-01-05T00:00"), utc("2026-01-06T00:00"))
    held = [(f"{point.local:%H:%M}", point.min, point.max) for point in line.breakpoints]
    assert held == [("08:00", 1, 4), ("09:00", 2, 4), ("16:00", 1, 4)]


def test_what_fires_absurdly_often_is_refused():
    policy = parse_policy(
        {"min": 0, "max": 1, "windows": [{"name": "w", "cron": "* * * * *", "duration": "1m", "min": 1}]}
    )
    with pytest.raises(InvalidPolicy, match="too often"):
        timeline(policy, utc("2026-01-01"), utc("2026-12-31"))


def test_an_interval_must_be_one():
    policy = parse_policy({"min": 0, "max": 1})
    with pytest.raises(ValueError, match="earlier to a later"):
        timeline(policy, utc("2026-01-02"), utc("2026-01-01"))
    with pytest.raises(ValueError, match="three years"):
        timeline(policy, utc("2026-01-02"), utc("2036-01-01"))
    line = timeline(policy, utc("2026-01-01"), utc("2026-01-02"))
    with pytest.raises(ValueError, match="outside"):
        line.at(line.end)


def test_seconds_are_cut():
    policy = parse_policy({"min": 0, "max": 1})
    line = timeline(policy, utc("2026-01-01T00:00:59"), utc("2026-01-02") + timedelta(seconds=3))
    assert (line.start.second, line.end.second) == (0, 0)
