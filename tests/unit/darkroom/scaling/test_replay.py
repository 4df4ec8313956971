"""Years of random policies: the timeline against a brute-force clock, each executor against the timeline."""

import re
from bisect import bisect_right
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from darkroom.errors import InvalidPolicy
from darkroom.scaling import application_autoscaling, keda
from darkroom.scaling.document import parse_policy
from darkroom.scaling.fields import minutes_of, weekdays_of
from darkroom.scaling.timeline import timeline

ZONES = ["Asia/Shanghai", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe"]
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
SLOW = settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))

# Quarter hours between one and four are drawn often: that is where clocks jump.
minutes = st.one_of(st.integers(4, 16).map(lambda quarter: 15 * quarter), st.integers(0, 1439))
clock = minutes.map(lambda minute: f"{minute // 60:02d}:{minute % 60:02d}")
days = st.sampled_from(["mon-fri", "sat,sun", "mon-sun", "sun", "sat-mon", "wed"])
dates = st.dates(date(2026, 1, 1), date(2027, 12, 31))


@st.composite
def windows(draw, index):
    opening, closing = draw(st.tuples(clock, clock).filter(lambda pair: pair[0] != pair[1]))
    low = draw(st.integers(0, 4))
    window = {"name": f"w{index}", "min": low, "max": draw(st.integers(max(low, 1), 8))}
    window["priority"] = draw(st.integers(0, 2))
    if draw(st.booleans()):
        window["timezone"] = draw(st.sampled_from(ZONES))
    if draw(st.integers(0, 3)):
        window |= {"hours": f"{opening}-{closing}", "days": draw(days)}
    else:
        hour, minute = opening.split(":")
        window |= {"cron": f"{int(minute)} {int(hour)} * * {draw(st.sampled_from(['*', 'mon-fri', 'sun']))}"}
        window |= {"duration": f"{draw(st.integers(1, 40)) * 15}m"}
    if draw(st.integers(0, 3)) == 0:
        window["exceptions"] = [day.isoformat() for day in draw(st.lists(dates, max_size=3))]
    if draw(st.integers(0, 3)) == 0:
        first = draw(st.dates(date(2026, 1, 1), date(2027, 6, 1)))
        window |= {"from": first.isoformat(), "to": (first + timedelta(days=draw(st.integers(20, 300)))).isoformat()}
    return window


@st.composite
def policies(draw):
    found = [draw(windows(index)) for index in range(draw(st.integers(0, 3)))]
    pins = [
        {"at": draw(clock), "min": draw(st.integers(0, 2)), "days": draw(days)} for _ in range(draw(st.integers(0, 2)))
    ]
    return {"min": 0, "max": 5, "timezone": draw(st.sampled_from(ZONES)), "windows": found, "schedule": pins}


@cache
def first_minute_at_or_after(wall: datetime, zone: str) -> datetime:
    """By scanning minutes, not by arithmetic on offsets."""
    instant = (wall - timedelta(hours=15)).replace(tzinfo=UTC)
    while instant.astimezone(ZoneInfo(zone)).replace(tzinfo=None) < wall:
        step = wall - instant.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        instant += max(step - timedelta(hours=3), MINUTE)
    return instant


def open_at(window: dict, zone: str, instant: datetime) -> bool:
    """Whether a window of days and hours is open: is some date's opening past, and its closing not?"""
    opening, closing = minutes_of(window["hours"])
    today = instant.astimezone(ZoneInfo(zone)).date()
    for offset in (-2, -1, 0, 1):
        day = today + offset * DAY
        if day.weekday() not in weekdays_of(window["days"]) or day.isoformat() in window.get("exceptions", ()):
            continue
        if not window.get("from", "0") <= day.isoformat() <= window.get("to", "9"):
            continue
        midnight = datetime.combine(day, time())
        begin, end = (first_minute_at_or_after(midnight + m * MINUTE, zone) for m in (opening, closing))
        if begin <= instant < end:
            return True
    return False


def jumps(zone: str, year: int) -> list[datetime]:
    """The UTC hours in which a zone's clock jumps that year."""
    hours = [datetime(year, 1, 1, tzinfo=UTC) + timedelta(hours=n) for n in range(366 * 24)]
    offsets = [hour.astimezone(ZoneInfo(zone)).utcoffset() for hour in hours]
    return [a for a, x, y in zip(hours, offsets, offsets[1:], strict=False) if x != y]


JUMPS = {zone: jumps(zone, 2026) + jumps(zone, 2027) for zone in ZONES}
START, END = datetime(2026, 1, 5, 7, tzinfo=UTC), datetime(2027, 12, 31, tzinfo=UTC)


@SLOW
@given(policies(), st.data())
def test_windows_are_honoured_to_the_minute(document, data):
    document["windows"] = [window for window in document["windows"] if "hours" in window]
    policy = parse_policy(document)
    line = timeline(policy, START, END)
    assert all(point.min <= point.max for point in line.breakpoints)
    assert [point.at for point in line.breakpoints] == sorted({point.at for point in line.breakpoints})
    zones = [window.get("timezone", document["timezone"]) for window in document["windows"]]
    near = [jump + n * 15 * MINUTE for zone in zones for jump in JUMPS[zone] for n in range(-6, 9)]
    edges = [point.at + offset for point in line.breakpoints[1:60] for offset in (-MINUTE, timedelta(), MINUTE)]
    anywhere = st.integers(0, int((END - START) / MINUTE) - 1).map(lambda n: START + n * MINUTE)
    for instant in [*near[::5], *edges[::5], *data.draw(st.lists(anywhere, min_size=30, max_size=30))]:
        openly = [
            (-window["priority"], index)
            for index, (window, zone) in enumerate(zip(document["windows"], zones, strict=True))
            if open_at(window, zone, instant)
        ]
        expected = document["windows"][min(openly)[1]]["name"] if openly else None
        assert line.at(instant).window == expected, instant


# ---- Application Auto Scaling: actions overwrite both limits and nothing reverts them --------------------------------


def aws_firings(action: dict, start: datetime, end: datetime, *, at_jump: str) -> list[datetime]:
    """When an action fires; `at_jump` is what the service does where the clock skips or repeats an hour."""
    once = re.fullmatch(r"at\((.*)\)", action["Schedule"])
    if once:
        assert action["Timezone"] == "UTC"
        return [datetime.fromisoformat(once[1]).replace(tzinfo=UTC)]
    minute, hour, dom, month, dow, year = re.fullmatch(r"cron\((.*)\)", action["Schedule"])[1].split()
    assert (dom, month, year) == ("?", "*", "*")
    zone = ZoneInfo(action["Timezone"])
    found = [action["StartTime"]] if "StartTime" in action else []
    first = max(start, action.get("StartTime", start))
    for wall in CronSim(f"{minute} {hour} * * {dow}", first.astimezone(zone).replace(tzinfo=None) - DAY):
        instants = {wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)}
        if min(instants) > min(end, action.get("EndTime", end)):
            break
        if len(instants) > 1:
            skipped = all(i.astimezone(zone).replace(tzinfo=None) != wall for i in instants)
            chosen = {"never": set(), "first": {min(instants)}, "last": {max(instants)}, "both": instants}[at_jump]
            instants = (
                {first_minute_at_or_after(wall, action["Timezone"])} if skipped and at_jump == "first" else chosen
            )
        found += (i for i in instants if first <= i < min(end, action.get("EndTime", end)))
    return sorted(found)


@pytest.mark.parametrize("at_jump", ["never", "first", "last", "both"])
@SLOW
@given(policies())
def test_scheduled_actions_replay_to_the_timeline(at_jump, document):
    policy = parse_policy(document)
    line = timeline(policy, START, START + 366 * DAY)
    desired = application_autoscaling.compile_policy(policy, line, application_autoscaling.ScalableEndpoint("crayon"))
    assert len(desired.actions) <= 200
    events = []
    for action in desired.actions.values():
        assert set(action["ScalableTargetAction"]) == {"MinCapacity", "MaxCapacity"}
        limits = (action["ScalableTargetAction"]["MinCapacity"], action["ScalableTargetAction"]["MaxCapacity"])
        assert limits[0] <= limits[1]
        events += ((at, limits) for at in aws_firings(action, line.start, line.end, at_jump=at_jump))
    held, replayed = line.breakpoints[0].limits, [(line.start, line.breakpoints[0].limits)]
    for at, limits in sorted(event for event in events if event[0] > line.start):
        assert limits == line.at(at).limits, at  # also: two actions at one instant agree
        if limits != held:
            replayed.append((at, limits))
            held = limits
    assert replayed == [(point.at, point.limits) for point in line.changes()]


# ---- KEDA: a cron trigger is active while its next end comes before its next start -----------------------------------


def keda_firings(expression: str, zone: str, *, at_jump: str) -> list[datetime]:
    found, begin = set(), START.replace(tzinfo=None) - 10 * DAY
    for wall in CronSim(expression, begin):
        if wall > begin + 400 * DAY:
            break
        instants = {wall.replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC) for fold in (0, 1)}
        if len(instants) > 1:
            instants = {"never": set(), "first": {min(instants)}, "last": {max(instants)}, "both": instants}[at_jump]
        found |= instants
    return sorted(found)


def keda_limits(scaled: dict, at_jump: str):
    """Reads the ScaledObject back: instant -> (floor, cap), evaluating the formula's choices by hand."""
    crons = {t["name"]: t["metadata"] for t in scaled["spec"]["triggers"] if t["type"] == "cron"}
    times = {
        name: tuple(keda_firings(cron[edge], cron["timezone"], at_jump=at_jump) for edge in ("start", "end"))
        for name, cron in crons.items()
    }
    formula = scaled["spec"]["advanced"]["scalingModifiers"]["formula"]
    floor, cap = re.fullmatch(r"min\(max\(.*?, (\(.*?\)|\d+)\), (\(.*?\)|\d+)\)", formula).groups()

    def active(name: str, instant: datetime) -> bool:
        starts, ends = times[name]
        begin, end = bisect_right(starts, instant), bisect_right(ends, instant)
        return end < len(ends) and (begin == len(starts) or not starts[begin] < ends[end])

    def value(choice: str, instant: datetime) -> int:
        *choices, otherwise = choice.strip("()").split(" : ")
        for one in choices:
            mark, replicas = re.fullmatch(r"(mark_\d+) > 1 \? (\d+)", one).groups()
            if active(mark, instant):
                return int(replicas)
        return int(otherwise)

    return lambda instant: (value(floor, instant), value(cap, instant))


@pytest.mark.parametrize("at_jump", ["never", "first", "last", "both"])
@SLOW
@given(policies())
def test_scaled_object_replays_to_the_timeline(at_jump, document):
    policy = parse_policy(document)
    line = timeline(policy, START, START + 364 * DAY)
    try:
        scaled = keda.compile_policy(policy, line, keda.Workload("crayon"))
    except InvalidPolicy:  # about one in thirty of these policies is too irregular for KEDA, and told so
        return
    assert len(scaled["spec"]["triggers"]) <= 206
    limits_at = keda_limits(scaled, at_jump)
    zones = {document["timezone"], *(w.get("timezone", "Asia/Shanghai") for w in document["windows"])}
    near = [jump + n * 15 * MINUTE for zone in zones for jump in JUMPS[zone] for n in range(-6, 12, 2)]
    points = [point.at for point in line.breakpoints]
    for instant in [*near, *points, *(at - MINUTE for at in points[1:]), line.end - MINUTE]:
        if line.start <= instant < line.end:
            assert limits_at(instant) == line.at(instant).limits, instant
