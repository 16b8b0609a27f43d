"""The share of calls that reach the store, of those that were meant to: refused and dropped ones are missing.

What clients leave out by sampling is no loss: it is known and weighted. Clients tell their losses as totals without
moments, so stored history knows of refused records alone.
"""

from typing import Any

from sqlmodel import Session, col, func, select

from driftline.moment import DAY
from driftline.store.tables import NOT_ONLY_CLIENTS, ClientCount, Intake, Rollup
from scheduler.measures import Asked
from scheduler.measures.seen import Evidence, Seen

RECENT = DAY  # calls that began earlier are history: rollups of all time are not added up at each look
UNIT = "of the calls do not reach the store"


def line(condition: dict[str, Any]) -> float:
    """The share of lost calls from which on it alarms."""
    return 1 - float(condition["threshold"])


def look(session: Session, project_id: int, rule: Asked, cursor: dict[str, Any], now: int) -> Seen:
    """One block: what was stored and what was lost since the last look, of calls of the last day."""
    dropped = _total(
        session, func.sum(ClientCount.n), ClientCount.project_id == project_id,
        col(ClientCount.reason).not_in(NOT_ONLY_CLIENTS),
    )  # fmt: skip
    since = now - RECENT
    stored, refused = _since(session, project_id, since)
    seen = {"stored": stored, "refused": refused, "dropped": dropped, "from": since}
    if "from" not in cursor:
        return Seen(cursor=seen)
    if cursor["from"] != since:  # the same minutes as last time; those that have left the window are not counted anew
        stored, refused = _since(session, project_id, int(cursor["from"]))
    lost = max(0, refused - int(cursor["refused"])) + max(0, dropped - int(cursor["dropped"]))
    kept = max(0, stored - int(cursor["stored"]))
    evidence = [Evidence("", {}, now, lost, lost + kept)] if lost + kept else []
    return Seen(evidence, cursor=seen)


def _since(session: Session, project_id: int, moment: int) -> tuple[int, int]:
    stored = _total(session, func.sum(Rollup.n), Rollup.project_id == project_id, col(Rollup.minute) >= moment)
    refused = _total(
        session, func.sum(Intake.n), Intake.project_id == project_id, Intake.reason == "rejected",
        col(Intake.minute) >= moment,
    )  # fmt: skip
    return stored, refused


def past(session: Session, project_id: int, rule: Asked, since: int, until: int) -> Seen:
    """One block per minute of stored history."""
    stored = _by_minute(session, Rollup, project_id, since, until)
    refused = _by_minute(session, Intake, project_id, since, until, Intake.reason == "rejected")
    return Seen(
        [
            Evidence("", {}, minute, refused.get(minute, 0), refused.get(minute, 0) + stored.get(minute, 0))
            for minute in sorted(set(stored) | set(refused))
        ]
    )


def _total(session: Session, what: Any, *where: Any) -> int:
    return int(session.exec(select(what).where(*where)).one() or 0)


def _by_minute(session: Session, table: Any, project_id: int, since: int, until: int, *where: Any) -> dict[int, int]:
    query = select(table.minute, func.sum(table.n)).where(
        table.project_id == project_id, col(table.minute) >= since, col(table.minute) < until, *where
    )
    return {int(minute): int(n) for minute, n in session.exec(query.group_by(table.minute))}
