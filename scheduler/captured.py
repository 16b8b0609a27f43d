"""The captured share: what part of all calls an estimate rests on, from rollups and counts, whatever the traffic."""

from typing import Any

from sqlmodel import Session, col, func, select

from driftline.store.tables import NOT_ONLY_CLIENTS, ClientCount, Intake, Rollup


def captured_between(
    session: Session, project_id: int, start: int, end: int, before: dict[str, Any] | None
) -> dict[str, Any]:
    """What was stored of the calls of a stretch of time, and what was not.

    `stored` records stand for `stands_for` calls (each for 1 / sample_rate); `rejected` were refused; `dropped` is what
    SDKs say they could not send, as far as they said so since `before`. `share` is stored among all of these, None
    where there was nothing. `total_dropped` is for the next time.
    """
    stored, stands_for = session.exec(
        select(func.coalesce(func.sum(Rollup.n), 0), func.coalesce(func.sum(Rollup.weight_sum), 0.0)).where(
            Rollup.project_id == project_id, Rollup.minute >= start, Rollup.minute < end
        )
    ).one()
    rejected = session.exec(
        select(func.coalesce(func.sum(Intake.n), 0)).where(
            Intake.project_id == project_id, Intake.reason == "rejected", Intake.minute >= start, Intake.minute < end
        )
    ).one()
    total = session.exec(
        select(func.coalesce(func.sum(ClientCount.n), 0)).where(
            ClientCount.project_id == project_id, col(ClientCount.reason).not_in(NOT_ONLY_CLIENTS)
        )
    ).one()
    dropped = max(0, int(total) - int(before["total_dropped"])) if before else 0
    known = max(float(stands_for), float(stored)) + int(rejected) + dropped
    return {
        "stored": int(stored), "stands_for": float(stands_for), "rejected": int(rejected), "dropped": dropped,
        "share": int(stored) / known if known else None, "total_dropped": int(total),
    }  # fmt: skip
