"""What people do to things they see: one row each, carried out alike by a page's button and by the API."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session, SQLModel

from driftline.acts import alerts, monitors, reoptimizations, replays, rules, schedules, trials, variants
from driftline.errors import NotFound
from driftline.store.engine import writing
from driftline.store.projects import Caller
from driftline.store.tables import (
    Alert,
    AlertRule,
    Channel,
    DriftEvent,
    Monitor,
    Reoptimization,
    Replay,
    Schedule,
    Silence,
    Variant,
)

Given = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Act:
    """One thing to do to one row: POST /{of}/{id}/{verb} on the pages, the same under /api.

    `perform` takes the session, the row, the actor's name and what was given; it raises Conflict where the state has
    moved on. `said` is what the page tells afterwards. `takes_reason`: whether a reason may be given.
    """

    of: str
    verb: str
    table: type[SQLModel]
    perform: Callable[[Session, Any, str, Given], Any]
    said: str
    takes_reason: bool = False


def _why(given: Given) -> str:
    return given.get("reason", "").strip()


ACTS = (
    Act("alerts", "acknowledge", Alert, lambda s, row, who, _: alerts.acknowledge(s, row, who), "Acknowledged."),
    Act("alerts", "resolve", Alert, lambda s, row, who, _: alerts.resolve(s, row, who), "Resolved."),
    Act("channels", "test", Channel, lambda s, row, who, _: alerts.test_channel(s, row, who),
        "A test notice is on its way."),
    Act("rules", "enable", AlertRule, lambda s, row, who, _: rules.set_enabled(s, row, True, who), "On."),
    Act("rules", "disable", AlertRule, lambda s, row, who, _: rules.set_enabled(s, row, False, who), "Off."),
    Act("silences", "end", Silence, lambda s, row, who, _: alerts.end_silence(s, row, who), "The silence has ended."),
    Act("drift-events", "close", DriftEvent, lambda s, row, who, _: monitors.close_event(s, row, who),
        "Closed; its alerts are resolved and the monitor watches on."),
    Act("drift-events", "recompute", DriftEvent, lambda s, row, who, _: trials.recompute_event(s, row),
        "It is being computed once more from what was stored."),
    Act("monitors", "rebaseline", Monitor, lambda s, row, who, _: monitors.rebaseline(s, row, who),
        "The monitor collects a new reference."),
    Act("monitors", "pause", Monitor, lambda s, row, who, _: monitors.pause(s, row, who), "Paused."),
    Act("monitors", "resume", Monitor, lambda s, row, who, _: monitors.resume(s, row, who), "Watching again."),
    Act("reoptimizations", "approve", Reoptimization, lambda s, row, who, _: reoptimizations.approve(s, row, who),
        "Approved: candidates are being built."),
    Act("reoptimizations", "prove", Reoptimization,
        lambda s, row, who, _: reoptimizations.approve(s, row, who, hold=True),
        "Approved: candidates are being built. The best will wait for you."),
    Act("reoptimizations", "release", Reoptimization,
        lambda s, row, who, given: reoptimizations.release(s, row, who, _why(given)),
        "Released: the roll-out begins.", takes_reason=True),
    Act("reoptimizations", "reject", Reoptimization,
        lambda s, row, who, given: reoptimizations.reject(s, row, who, _why(given)), "Rejected.", takes_reason=True),
    Act("reoptimizations", "cancel", Reoptimization,
        lambda s, row, who, given: reoptimizations.cancel(s, row, who, _why(given)), "Cancelled.", takes_reason=True),
    Act("reoptimizations", "undo", Reoptimization,
        lambda s, row, who, given: reoptimizations.undo(s, row, who, _why(given)),
        "Undone: the route points back.", takes_reason=True),
    Act("replays", "cancel", Replay, lambda s, row, who, _: replays.cancel_replay(s, row, who), "Cancelled."),
    Act("schedules", "enable", Schedule, lambda s, row, who, _: schedules.set_enabled(s, row, True, who),
        "Enabled."),
    Act("schedules", "disable", Schedule, lambda s, row, who, _: schedules.set_enabled(s, row, False, who),
        "Disabled."),
    Act("variants", "build", Variant, lambda s, row, who, _: variants.request_build(s, row, who),
        "The build is queued."),
)  # fmt: skip


def find_row(session: Session, table: type[SQLModel], row_id: int, project_id: int, kind: str) -> Any:
    """A row of the project.

    Raises:
        NotFound: No such row, or another project's: the answer does not tell which.
    """
    row = session.get(table, row_id)
    if row is None or getattr(row, "project_id", None) != project_id:
        raise NotFound(kind, row_id)
    return row


def carry_out(act: Act, row_id: int, caller: Caller, given: Given) -> Any:
    """Does it in one transaction and returns the row as it is then; jobs it asks for are sent after the commit."""
    with writing() as session:
        row = find_row(session, act.table, row_id, caller.project_id, act.of)
        act.perform(session, row, caller.name, given)
        session.flush()
        session.refresh(row)
        return row
