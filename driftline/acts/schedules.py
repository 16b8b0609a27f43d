"""Schedules: which job is due when."""

from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sqlmodel import Session, select

from driftline.errors import BadInput, Conflict
from driftline.moment import now_us
from driftline.store.projects import audit
from driftline.store.tables import Schedule

KINDS = {"replay": "replay"}  # what people may schedule → its queue


def add(
    session: Session,
    project_id: int,
    name: str,
    kind: str,
    args: dict[str, Any],
    actor: str,
    *,
    cron: str | None = None,
    every_s: float | None = None,
    timezone: str = "UTC",
) -> Schedule:
    """A schedule by cron line (five fields, read in the IANA time zone) or by interval in seconds.

    A replay's `args` are {"variant": name, "golden": name, "baseline": name or absent}.

    Raises:
        BadInput: Not exactly one of `cron` and `every_s`, or one that cannot be read; an unknown kind or time zone.
        Conflict: The name is taken.
    """
    if kind not in KINDS:
        raise BadInput(f"What can be scheduled: {', '.join(KINDS)}; got {kind!r}.")
    if (cron is None) == (every_s is None):
        raise BadInput("A schedule has either a cron line or an interval in seconds.")
    if every_s is not None and not 1 <= every_s <= 366 * 86_400:
        raise BadInput(f"An interval is between one second and a year; got {every_s} seconds.")
    try:
        ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError):
        raise BadInput(f"There is no time zone {timezone!r}. Use an IANA name such as Europe/Berlin.") from None
    if cron is not None:
        _check_cron(cron)
    if session.exec(select(Schedule).where(Schedule.project_id == project_id, Schedule.name == name)).first():
        raise Conflict(f"There is a schedule named {name} already.")
    now = now_us()
    row = Schedule(
        project_id=project_id, name=name, kind=kind, queue=KINDS[kind], args=args, cron=cron, every_s=every_s,
        timezone=timezone, created_at=now, updated_at=now,
    )  # fmt: skip
    session.add(row)
    session.flush()
    audit(
        session,
        project_id,
        actor,
        "schedule.added",
        f"schedule:{row.id}",
        {"name": name, "cron": cron, "every_s": every_s},
    )
    return row


def set_enabled(session: Session, schedule: Schedule, enabled: bool, actor: str) -> None:
    """Lets a schedule fire, or not."""
    schedule.enabled, schedule.updated_at = enabled, now_us()
    session.add(schedule)
    audit(
        session,
        schedule.project_id,
        actor,
        "schedule.enabled" if enabled else "schedule.disabled",
        f"schedule:{schedule.id}",
        {},
    )


def _check_cron(cron: str) -> None:
    fields = cron.split()
    if len(fields) != 5:
        raise BadInput(f"A cron line has five fields (minute hour day month weekday); {cron!r} has {len(fields)}.")
    from celery.schedules import ParseException, crontab_parser

    limits = ((60, 0), (24, 0), (31, 1), (12, 1), (7, 0))
    for field, (size, least) in zip(fields, limits, strict=True):
        try:
            crontab_parser(size, least).parse(field)
        except (ParseException, ValueError) as error:
            raise BadInput(f"The cron field {field!r} cannot be read: {error}.") from None
