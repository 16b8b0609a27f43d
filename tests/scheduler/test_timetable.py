"""Cron lines mean what crontab(5) says, in their own time zone, on the days when clocks are set as well."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.acts.schedules import read_cron
from driftline.errors import BadInput
from driftline.moment import SECOND, parse
from driftline.store.tables import Schedule
from scheduler.timetable import MOST_MISSED, delayed, due_moments, last_due, trigger_of

SUN, MON, TUE, WED, THU, FRI, SAT = range(7)
BERLIN = ZoneInfo("Europe/Berlin")


def schedule(cron: str | None = None, *, zone: str = "UTC", every_s: float | None = None, made: str = "") -> Schedule:
    at = parse(made) if made else 0
    return Schedule(
        id=1, project_id=1, name="nightly", kind="replay", queue="replay", cron=cron, every_s=every_s, timezone=zone,
        created_at=at, updated_at=at,
    )  # fmt: skip


def firings(row: Schedule, start: datetime, end: datetime, step: timedelta = timedelta(minutes=10)) -> list[datetime]:
    """What a clock that looks every `step` acts on, in the schedule's zone."""
    found: dict[int, datetime] = {}
    moment = start
    while moment <= end:
        due = last_due(row, int(moment.timestamp() * SECOND))
        if due is not None:
            found.setdefault(due, datetime.fromtimestamp(due / SECOND, ZoneInfo(row.timezone)))
        moment = (moment.astimezone(UTC) + step).astimezone(start.tzinfo)
    return [at for at in found.values() if at > start]


@pytest.mark.parametrize(
    ("field", "days"),
    [
        ("*", {SUN, MON, TUE, WED, THU, FRI, SAT}), ("0", {SUN}), ("7", {SUN}), ("1", {MON}), ("sun", {SUN}),
        ("1-5", {MON, TUE, WED, THU, FRI}), ("mon-fri", {MON, TUE, WED, THU, FRI}), ("0-2", {SUN, MON, TUE}),
        ("5-7", {FRI, SAT, SUN}), ("6-1", {SAT, SUN, MON}), ("0,6", {SUN, SAT}), ("*/2", {SUN, TUE, THU, SAT}),
        ("1-5/2", {MON, WED, FRI}), ("0-6", {SUN, MON, TUE, WED, THU, FRI, SAT}),
    ],
)  # fmt: skip
def test_weekdays_count_from_sunday_as_in_crontab(field: str, days: set[int]) -> None:
    row = schedule(f"0 3 * * {field}")
    week = firings(row, datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 6, 8, tzinfo=UTC), timedelta(minutes=30))
    assert {at.isoweekday() % 7 for at in week} == days
    assert {(at.hour, at.minute) for at in week} == {(3, 0)}


def test_a_line_with_a_day_and_a_weekday_is_due_on_either() -> None:
    row = schedule("0 3 15 * 1")
    month = firings(row, datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 6, 30, tzinfo=UTC), timedelta(minutes=30))
    assert [at.day for at in month] == [1, 8, 15, 22, 29]
    row = schedule("0 3 10 * 1")
    month = firings(row, datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 6, 30, tzinfo=UTC), timedelta(minutes=30))
    assert [at.day for at in month] == [1, 8, 10, 15, 22, 29]


fields = st.lists(st.integers(0, 59), min_size=1, max_size=4, unique=True)


@given(minutes=fields, hours=st.lists(st.integers(0, 23), min_size=1, max_size=4, unique=True), start=st.integers(0))
def test_the_trigger_and_the_line_agree_on_every_moment(minutes: list[int], hours: list[int], start: int) -> None:
    row = schedule(f"{','.join(map(str, minutes))} {','.join(map(str, hours))} * * *")
    moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=start % 500_000)
    due = trigger_of(row).get_next_fire_time(None, moment)
    assert due.minute in minutes
    assert due.hour in hours
    assert due - moment <= timedelta(days=1)
    at = int(due.timestamp() * SECOND)
    assert last_due(row, at) == at
    assert last_due(row, at - 1) != at


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("0 3 * *", "has 4"),
        ("0 3 * * 8", "weekday '8'"),
        ("60 3 * * *", "minute '60'"),
        ("0 3 0 * *", "day '0'"),
        ("*/0 3 * * *", "minute '*/0'"),
        ("mon 3 * * *", "only weekdays have names"),
        ("0 3 * * someday", "weekday 'someday'"),
    ],
)
def test_a_line_that_cannot_be_read_is_refused_by_its_field(line: str, says: str) -> None:
    with pytest.raises(BadInput, match=re.escape(says)):
        read_cron(line)


def test_a_daily_schedule_keeps_its_local_hour_when_summer_begins_and_ends() -> None:
    row = schedule("0 9 * * *", zone="Europe/Berlin")
    for start in (datetime(2026, 3, 28, tzinfo=BERLIN), datetime(2026, 10, 24, tzinfo=BERLIN)):
        found = firings(row, start, start + timedelta(days=3))
        assert [at.strftime("%H:%M") for at in found] == ["09:00"] * 3
        assert len({at.utcoffset() for at in found}) == 2


def test_an_hour_that_comes_twice_is_due_once_for_a_daily_schedule() -> None:
    row = schedule("30 2 * * *", zone="Europe/Berlin")
    found = firings(row, datetime(2026, 10, 24, tzinfo=BERLIN), datetime(2026, 10, 27, tzinfo=BERLIN))
    assert [at.strftime("%d %H:%M") for at in found] == ["24 02:30", "25 02:30", "26 02:30"]


def test_an_hour_that_is_left_out_does_not_lose_its_daily_schedule() -> None:
    row = schedule("30 2 * * *", zone="Europe/Berlin")
    found = firings(row, datetime(2026, 3, 28, tzinfo=BERLIN), datetime(2026, 3, 31, tzinfo=BERLIN))
    assert [at.strftime("%d %H:%M") for at in found] == ["28 02:30", "29 03:30", "30 02:30"]


def test_an_hourly_schedule_is_due_in_every_hour_that_passes() -> None:
    row = schedule("0 * * * *", zone="Europe/Berlin")
    assert len(firings(row, datetime(2026, 10, 25, tzinfo=BERLIN), datetime(2026, 10, 26, tzinfo=BERLIN))) == 25
    assert len(firings(row, datetime(2026, 3, 29, tzinfo=BERLIN), datetime(2026, 3, 30, tzinfo=BERLIN))) == 23


def test_what_was_missed_by_less_than_an_hour_is_still_due_and_by_more_is_past() -> None:
    row = schedule("0 3 * * *")
    three = parse("2026-06-01T03:00:00Z")
    assert last_due(row, three + 59 * 60 * SECOND) == three
    assert last_due(row, three + 61 * 60 * SECOND) is None


@pytest.mark.parametrize("kind", [{"cron": "0 * * * *"}, {"every_s": 3600}])
def test_moments_before_a_schedule_was_made_are_not_due(kind: dict[str, Any]) -> None:
    row = schedule(**kind, made="2026-06-01T03:00:30Z")
    assert last_due(row, parse("2026-06-01T03:01:00Z")) is None
    assert last_due(row, parse("2026-06-01T04:00:30Z")) is not None


def test_an_interval_counts_from_when_the_schedule_was_made() -> None:
    row = schedule(every_s=600, made="2026-06-01T03:00:30Z")
    assert last_due(row, parse("2026-06-01T03:35:00Z")) == parse("2026-06-01T03:30:30Z")


@pytest.mark.parametrize("line", ["0 0 30 2 *", "0 0 31 2,4,6 *"])
def test_a_date_that_never_comes_is_refused(line: str) -> None:
    with pytest.raises(BadInput, match="names a day that none of its months has"):
        read_cron(line)


def test_a_leap_day_waits_for_its_year() -> None:
    leap = trigger_of(schedule("0 0 29 2 *")).get_next_fire_time(None, datetime(2026, 1, 1, tzinfo=UTC))
    assert leap == datetime(2028, 2, 29, tzinfo=UTC)


def at(hour: int, minute: int = 0) -> int:
    return parse(f"2026-06-02T{hour:02}:{minute:02}:00Z")


@pytest.mark.parametrize(
    ("rule", "within_s", "now", "expected"),
    [
        ("once", 3600, at(3, 30), [at(3)]),
        ("once", 86_400, at(6, 30), [at(6)]),
        ("once", 1200, at(3, 30), []),
        ("skip", 86_400, at(3, 1), [at(3)]),
        ("skip", 86_400, at(3, 30), []),
        ("each", 4 * 3600, at(6, 30), [at(3), at(4), at(5), at(6)]),
        ("each", 2 * 3600, at(6, 30), [at(5), at(6)]),
    ],
)
@pytest.mark.parametrize("every", [True, False])
def test_missed_moments_are_made_up_for_by_the_rule_of_the_schedule(
    rule: str, within_s: int, now: int, expected: list[int], every: bool
) -> None:
    made = "2026-06-01T00:00:00Z"
    row = schedule(every_s=3600, made=made) if every else schedule("0 * * * *", made=made)
    row.catch_up, row.catch_up_s = rule, within_s
    assert due_moments(row, now) == expected


def test_a_year_of_missed_seconds_is_no_flood() -> None:
    row = schedule(every_s=1, made="2025-06-01T00:00:00Z")
    row.catch_up, row.catch_up_s = "each", 366 * 86_400
    assert len(due_moments(row, at(3))) == MOST_MISSED


def test_jitter_is_the_same_for_every_clock_spreads_schedules_and_stays_within_its_bound() -> None:
    rows = [schedule("0 3 * * *") for _ in range(50)]
    for number, row in enumerate(rows):
        row.name, row.jitter_s = f"nightly {number}", 600.0
    starts = [delayed(row, at(3)) - at(3) for row in rows]
    assert starts == [delayed(row, at(3)) - at(3) for row in rows]
    assert 0 <= min(starts) < 120 * SECOND < 480 * SECOND < max(starts) < 600 * SECOND
    rows[0].jitter_s = 0.0
    assert delayed(rows[0], at(3)) == at(3)
