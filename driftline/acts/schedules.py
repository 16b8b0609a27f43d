"""Schedules: which job is due when."""

from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sqlmodel import Session, select

from driftline.acts.budgets import Budget
from driftline.acts.replays import DEFAULT_MARGIN, PLANNED
from driftline.errors import BadInput, Conflict, NotFound
from driftline.moment import now_us
from driftline.names import is_typable
from driftline.store.projects import audit
from driftline.store.tables import Schedule

KINDS = {"replay": "replay", "coverage": "drift", "reoptimize": "drift"}  # what people may schedule → its queue
CATCH_UP = ("once", "skip", "each")
# kind → the texts it must be told, and those it may
WISHES = {
    "replay": ({"variant", "golden"}, {"baseline"}),
    "coverage": ({"golden"}, {"route"}),
    "reoptimize": ({"route"}, {"cause", "because"}),
}
AND_MORE = {
    "replay": set(PLANNED),
    "coverage": {"days"},
    "reoptimize": set[str](),
}  # what else, checked where it is used
FIELDS = {"minute": (60, 0), "hour": (24, 0), "day": (31, 1), "month": (12, 1), "weekday": (8, 0)}  # size, least

DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)  # the most that each month has


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron line, read. Weekdays count from Sunday = 0.

    `either_day`: day and weekday are both restricted, and then, as in crontab(5), either of them is enough.
    """

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool


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
    jitter_s: float = 0.0,
    catch_up: str = "once",
    catch_up_s: float = 3600.0,
) -> Schedule:
    """A schedule by cron line (five fields, read in the IANA time zone) or by interval in seconds.

    A replay's `args` are {"variant": name, "golden": name, "baseline": name or absent}; a re-optimization's are
    {"route": name, "cause": one of those that plans answer, or absent}.

    Raises:
        BadInput: Not exactly one of `cron` and `every_s`, or one that cannot be read or never comes; an unknown kind or
            time zone; `args` that are not those of the kind.
        Conflict: The name is taken.
    """
    if not is_typable(name):
        raise BadInput(
            f"A schedule cannot be called {name!r}: a name is one line that is not blank, without a space at its ends."
        )
    if kind not in KINDS:
        raise BadInput(f"What can be scheduled: {', '.join(KINDS)}; got {kind!r}.")
    if (cron is None) == (every_s is None):
        raise BadInput("A schedule has either a cron line or an interval in seconds.")
    if every_s is not None and not 1 <= every_s <= 366 * 86_400:
        raise BadInput(f"An interval is between one second and a year; got {every_s} seconds.")
    if not 0 <= jitter_s <= 86_400 or not 0 < catch_up_s <= 366 * 86_400 or catch_up not in CATCH_UP:
        raise BadInput(
            f"A schedule may be late by up to a day (jitter_s, {jitter_s}) and catches up {', '.join(CATCH_UP)} "
            f"({catch_up}) of moments up to a year old (catch_up_s, {catch_up_s})."
        )
    _check_wishes(kind, args)
    try:
        ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError):
        raise BadInput(f"There is no time zone {timezone!r}. Use an IANA name such as Europe/Berlin.") from None
    if cron is not None:
        read_cron(cron)
    if session.exec(select(Schedule).where(Schedule.project_id == project_id, Schedule.name == name)).first():
        raise Conflict(f"There is a schedule named {name} already.")
    now = now_us()
    row = Schedule(
        project_id=project_id, name=name, kind=kind, queue=KINDS[kind], args=args, cron=cron, every_s=every_s,
        timezone=timezone, jitter_s=jitter_s, catch_up=catch_up, catch_up_s=catch_up_s, created_at=now, updated_at=now,
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


def _check_wishes(kind: str, args: dict[str, Any]) -> None:
    must, may = WISHES[kind]
    if kind == "replay" and (unknown := set(args) - must - may - AND_MORE[kind]):
        raise BadInput(f"A replay cannot be told {sorted(unknown)[0]!r}; known are {', '.join(PLANNED)}.")
    if not isinstance(budget := args.get("budget", {}), dict):
        raise BadInput(f'A budget is amounts by name, such as {{"calls": 500}}; got {budget!r}.')
    Budget.of(budget)
    margin = args.get("margin", DEFAULT_MARGIN)
    if isinstance(margin, bool) or not isinstance(margin, int | float) or not 0.0 <= margin < 1.0:
        raise BadInput(f"The margin is {margin!r}; it must be a number of at least 0 and below 1, such as 0.02.")
    if args.get("early_stop") and args.get("baseline") in (None, args.get("variant")):
        raise BadInput("A replay can stop early only where it is compared with a baseline; name another variant as it.")
    texts = {name: value for name, value in args.items() if name not in AND_MORE[kind]}
    if not (must <= set(texts) <= must | may and all(isinstance(text, str) and text for text in texts.values())):
        needed, allowed = (" and ".join(sorted(names)) for names in (must, may))
        raise BadInput(f"A scheduled {kind} is told {needed}, and perhaps {allowed}, as texts; got {args}.")


def find_schedule(session: Session, project_id: int, name: str) -> Schedule:
    """The schedule of that name.

    Raises:
        NotFound: There is none; lists those there are.
    """
    known = {row.name: row for row in session.exec(select(Schedule).where(Schedule.project_id == project_id))}
    if name not in known:
        raise NotFound("schedule", name, sorted(known))
    return known[name]


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


def read_cron(line: str) -> Cron:
    """The five fields of a cron line: minute, hour, day, month, weekday (0 and 7 are Sunday; names such as mon too).

    Raises:
        BadInput: Not five fields, or one that cannot be read: names it.

    >>> read_cron("30 2 * * 5-7").weekdays == {5, 6, 0}
    True
    """
    from celery.schedules import ParseException, crontab_parser

    given = line.split()
    if len(given) != len(FIELDS):
        raise BadInput(
            f"A cron line has five fields (minute hour day month weekday), such as '0 3 * * 1-5'; "
            f"{line!r} has {len(given)}."
        )
    found: dict[str, frozenset[int]] = {}
    for field, (name, (size, least)) in zip(given, FIELDS.items(), strict=True):
        try:
            if name != "weekday" and any(char.isalpha() for char in field):
                raise ValueError("only weekdays have names")
            found[name] = frozenset(crontab_parser(size, least).parse(field))
        except (ParseException, ValueError) as error:
            raise BadInput(f"The {name} {field!r} of the cron line {line!r} cannot be read: {error}.") from None
    either_day = given[2] != "*" and given[4] != "*"
    if not either_day and min(found["day"]) > max(DAYS[month - 1] for month in found["month"]):
        raise BadInput(f"The cron line {line!r} names a day that none of its months has, so it would never be due.")
    return Cron(
        found["minute"], found["hour"], found["day"], found["month"], frozenset(day % 7 for day in found["weekday"]),
        either_day,
    )  # fmt: skip
