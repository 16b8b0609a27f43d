"""When a schedule is due: cron lines in their time zone, intervals from the moment they were made."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from apscheduler.triggers.combining import OrTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from driftline.acts.schedules import Cron, read_cron
from driftline.moment import SECOND
from driftline.store.hashing import content_hash
from driftline.store.tables import Schedule

MISSED_S = 3600  # how late APScheduler still calls; the row's own rule then decides
PUNCTUAL_S = 120  # a clock that was there has acted on a moment by then
MOST_MISSED = 100
WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")  # APScheduler counts from Monday, so names are safer


def trigger_of(row: Schedule) -> Any:
    """APScheduler's trigger for a schedule.

    Raises:
        BadInput: The row holds a cron line that cannot be read.
    """
    if row.every_s is not None:
        return IntervalTrigger(seconds=row.every_s, start_date=_moment(row.created_at), timezone=UTC)
    assert row.cron is not None
    return _cron_trigger(read_cron(row.cron), ZoneInfo(row.timezone))


def last_due(row: Schedule, now_us: int) -> int | None:
    """The latest moment at or before now at which the schedule was due; None when there is none to act on.

    Moments before the row was last changed, or longer ago than it catches up, are past. Where clocks are set back, an
    hour of the day comes twice: a cron line that names hours is due in the first of the two only.
    """
    found = _moments(row, now_us)
    return found[-1] if found else None


def due_moments(row: Schedule, now_us: int) -> list[int]:
    """The moments to act on now, by the schedule's rule for those that no clock saw.

    `once`: the latest; `skip`: the latest, unless a clock must have been away when it came; `each`: all of them.
    """
    found = _moments(row, now_us)
    if row.catch_up == "each":
        return found[-MOST_MISSED:]
    if row.catch_up == "skip" and found and found[-1] < now_us - PUNCTUAL_S * SECOND:
        return []
    return found[-1:]


def delayed(row: Schedule, due_us: int) -> int:
    """When the work of a moment begins: up to `jitter_s` later, by a hash that is the same for every clock."""
    share = int(content_hash([row.project_id, row.name, due_us])[:12], 16) / 16**12
    return due_us + int(share * row.jitter_s * SECOND)


def _moments(row: Schedule, now_us: int) -> list[int]:
    since = max(row.updated_at, now_us - int(row.catch_up_s * SECOND))
    if row.every_s is not None:
        every_us = int(row.every_s * SECOND)
        first = max((since - row.created_at) // every_us + 1, 1)
        last = (now_us - row.created_at) // every_us
        return [row.created_at + n * every_us for n in range(max(first, last - MOST_MISSED + 1), last + 1)]
    assert row.cron is not None
    cron, zone = read_cron(row.cron), ZoneInfo(row.timezone)
    trigger, now = _cron_trigger(cron, zone), _moment(now_us)
    found: list[int] = []
    moment = trigger.get_next_fire_time(None, _moment(since).astimezone(zone))
    while moment is not None and moment <= now:
        if not (moment.fold and len(cron.hours) < 24):
            found.append(_microseconds(moment))
        later = moment.astimezone(UTC) + timedelta(microseconds=1)
        moment = trigger.get_next_fire_time(None, later.astimezone(zone))
    return found


def in_window(cron: str, lasts_s: float, timezone: str, now_us: int) -> bool:
    """Whether a moment of a cron line lies within the last `lasts_s` seconds.

    >>> from driftline.moment import parse
    >>> [in_window("0 2 * * 0", 3600, "Europe/Berlin", parse(at)) for at in ("2026-06-07T00:59Z", "2026-06-07T01:01Z")]
    [True, False]
    """
    zone = ZoneInfo(timezone)
    since = _moment(now_us - int(lasts_s * SECOND)).astimezone(UTC) + timedelta(microseconds=1)
    next_fire = _cron_trigger(read_cron(cron), zone).get_next_fire_time(None, since.astimezone(zone))
    return next_fire is not None and bool(next_fire <= _moment(now_us))


def _cron_trigger(cron: Cron, zone: ZoneInfo) -> Any:
    often = {"minute": _listed(cron.minutes), "hour": _listed(cron.hours), "month": _listed(cron.months)}
    days, names = _listed(cron.days), ",".join(WEEKDAYS[day] for day in sorted(cron.weekdays))
    if cron.either_day:
        either = [CronTrigger(**often, day=days, timezone=zone), CronTrigger(**often, day_of_week=names, timezone=zone)]
        return OrTrigger(either)
    return CronTrigger(**often, day=days, day_of_week=names, timezone=zone)


def _listed(numbers: frozenset[int]) -> str:
    return ",".join(map(str, sorted(numbers)))


def _moment(us: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)


def _microseconds(moment: datetime) -> int:
    since = moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * SECOND + since.microseconds
