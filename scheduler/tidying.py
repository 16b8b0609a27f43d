"""Forgetting what is too old, folding what is past, and erasing a user: what keeps the store from growing for ever."""

from typing import Any

from sqlmodel import Session, select

from collector import folding, retention
from collector.past_days import drop_past_days
from driftline.moment import DAY, HOUR, MINUTE, SECOND, now_us
from driftline.queue import request
from driftline.store.engine import reading
from driftline.store.tables import Project
from scheduler.work import Later, Work

EVERY_S = 3600.0
AT_ONCE = 10_000  # calls forgotten in one turn of the job, so that others have theirs
DAYS_AT_ONCE = 50_000  # and calls of days that are dropped whole, which takes less
FOLD_AFTER = HOUR  # rollups of minutes this long past are folded; later ones still grow
QUARTER = 15 * MINUTE
QUARTERS_AFTER = 25 * HOUR  # then minutes into quarters of an hour, the steps in which a day is shown
HOURS_AFTER = 3 * DAY  # and then into hours, so that months are read as fast as days
CLIENTS_AFTER = 30 * DAY  # SDKs not heard of for so long are folded into one: their processes have ended
METRICS_STAY = 400 * DAY  # points of metrics, where the project keeps its calls for ever


def ask_for_tidying(session: Session, asked: dict[int, int]) -> None:
    """Asks once an hour for every project; `asked` remembers when (microseconds)."""
    now = now_us()
    for project_id in session.exec(select(Project.id)).all():
        if now - asked.get(project_id, 0) >= EVERY_S * SECOND:
            asked[project_id] = now
            request(
                session, "project.tidy", "drift", {}, project_id=project_id, subject=f"project:{project_id}",
                dedup_key=f"tidy:{project_id}",
            )  # fmt: skip


def tidy(work: Work) -> Later | dict[str, Any]:
    """Forgets what is older than the project keeps, in turns, then folds its rollups and counts."""
    now = now_us()
    with reading() as session:
        keep_days = session.get_one(Project, work.project).keep_days
    let_go = drop_past_days(now, most=DAYS_AT_ONCE)
    if let_go >= DAYS_AT_ONCE:
        return Later(note=f"{let_go} calls of days that are past let go; more to come")
    if keep_days is not None:
        forgotten = retention.forget_older(work.project, now - keep_days * DAY, most=AT_ONCE)
        if forgotten >= AT_ONCE:
            return Later(note=f"{forgotten} calls older than {keep_days} days forgotten; more to come")
    retention.forget_metrics(work.project, now - (keep_days * DAY if keep_days else METRICS_STAY))
    retention.forget_messages(now)
    folded = retention.fold_rollups(work.project, now - FOLD_AFTER)
    folded += retention.fold_rollups(work.project, now - QUARTERS_AFTER, QUARTER)
    folded += retention.fold_rollups(work.project, now - HOURS_AFTER, HOUR)
    folded += folding.fold_intake(work.project, now - FOLD_AFTER, MINUTE)
    folded += folding.fold_intake(work.project, now - HOURS_AFTER, HOUR)
    return {"folded": folded + folding.fold_clients(work.project, now - CLIENTS_AFTER)}


def erase(work: Work) -> dict[str, int]:
    """Deletes all calls of args["user_id"]."""
    return {"calls": retention.erase_user(work.project, str(work.args["user_id"]))}
