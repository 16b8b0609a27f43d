"""Watching a stream: freeze its reference, then judge block after block of a fixed clock.

A row belongs to the block in which it arrived, so a late one joins the next block, once. The monitor's row holds how
far it has read and the detector's state; both move in one conditional update with the Reading, so that a job that runs
twice changes nothing and a killed one is repeated from where it stood.
"""

import hashlib
from collections import Counter
from typing import Any

from sqlmodel import Session, col, select

from driftline.errors import BadInput
from driftline.moment import SECOND, YEAR, now_us
from driftline.settings import settings
from driftline.store.claims import claim
from driftline.store.engine import reading as reads
from driftline.store.engine import writing
from driftline.store.tables import DriftEvent, Monitor, Project, Reading, Reference, Variant
from evaluators.drift import Detector, detector, restore
from evaluators.drift import Reading as Judged
from evaluators.drift.budget import allow
from scheduler import incidents, scoring
from scheduler.references import (
    blocks_per_year,
    capped,
    freeze_rows,
    frozen_lines,
    frozen_mean,
    standing_reference,
    weights_of,
)
from scheduler.signals import Row, first_arrival, last_place, read_rows, stretch_end
from scheduler.work import Later, Work

MOST_BLOCKS = 100  # judged in one turn of the job


def check(work: Work) -> Later | dict[str, Any]:
    """Judges every complete block that args["monitor_id"] has not judged yet."""
    monitor_id = work.args["monitor_id"]
    for judged in range(MOST_BLOCKS):
        with reads() as session:
            monitor = session.get_one(Monitor, monitor_id)
        if monitor.status == "paused" or not step(work, monitor):
            return {"blocks": judged}
    return Later(note=f"{MOST_BLOCKS} blocks judged, more are waiting")


def step(work: Work, monitor: Monitor) -> bool:
    """One step: skip what came during a pause, freeze the reference, or judge one block. False when none is due."""
    horizon = now_us() - int(settings().settle_s * SECOND)
    if monitor.signal == "quality":
        with reads() as session:
            scored = scoring.scored_until(session, monitor)
        horizon = horizon if scored is None else min(horizon, scored)
    if monitor.pending.get("skip"):
        return _skip(work, monitor, horizon)
    if monitor.status == "collecting":
        return _collect(work, monitor, horizon)
    return _judge(work, monitor, horizon)


def _skip(work: Work, monitor: Monitor, horizon: int) -> bool:
    resumed_at = monitor.pending["skip"]
    if horizon < resumed_at:
        return False
    with reads() as session:
        last = last_place(session, monitor, after=monitor.cursor, before_us=resumed_at)
    with writing() as session:
        work.hold(session)
        return _move(session, monitor, cursor=last, pending={})


def _collect(work: Work, monitor: Monitor, horizon: int) -> bool:
    wanted = int(monitor.pending.get("wanted", monitor.params["reference_items"]))
    span_us = int(monitor.params["reference_s"] * SECOND)
    with reads() as session:
        last = stretch_end(session, monitor, after=monitor.cursor, items=wanted, span_us=span_us, before_us=horizon)
        if last is None:
            return False
        rows = read_rows(session, monitor, after=monitor.cursor, up_to=last)
        shares = _shares(session, monitor)
    try:
        frozen = freeze_rows(monitor, rows, *shares)
    except BadInput as problem:
        with writing() as session:
            work.hold(session)
            _move(session, monitor, pending={"problem": problem.message, "wanted": 2 * wanted})
        return False
    with writing() as session:
        work.hold(session)
        if not _move(session, monitor, cursor=last, status="watching", state=None, pending={}):
            return False
        session.add(
            Reference(
                monitor_id=monitor.id, content_hash=frozen["content_hash"], n=len(rows), since=rows[0].started_at,
                until=rows[-1].started_at, frozen=frozen, frozen_at=now_us(),
            )
        )  # fmt: skip
    return True


def _judge(work: Work, monitor: Monitor, horizon: int) -> bool:
    block_us = int(monitor.params["block_s"] * SECOND)
    with reads() as session:
        first = first_arrival(session, monitor, after=monitor.cursor)
        # Where a block has too few rows to be judged, the next block's rows join them.
        enough = first_arrival(session, monitor, after=monitor.cursor, skip=int(monitor.params["min_block_items"]) - 1)
        if first is None or enough is None:
            return False
        start, end = first // block_us * block_us, (max(first, enough) // block_us + 1) * block_us
        if end > horizon:
            return False
        last = last_place(session, monitor, after=monitor.cursor, before_us=end)
        # All up to that place: two collectors may stamp and store rows in different orders, and none is passed over.
        rows = read_rows(session, monitor, after=monitor.cursor, up_to=last)
        reference = standing_reference(session, monitor)
        names = _names(session, rows)
        alpha, weight, _ = _shares(session, monitor)
    watch = _detector(monitor, reference, allow(blocks_per_year(monitor), alpha, weight).log_threshold)
    cap = reference.frozen.get("cap")
    values = [row.value for row in rows] if monitor.detector == "exceedance" else capped(rows, cap)
    judged = watch.update(values, weights_of(rows, reference.frozen["least_rate"]))
    with writing() as session:
        work.hold(session)
        alarmed = judged.alarmed and monitor.status == "watching"
        moved = _move(
            session, monitor, cursor=last, state=watch.state(), status="alarmed" if alarmed else monitor.status
        )
        if not moved:
            return False
        row = _reading(session, monitor, reference, rows, names, judged, start, end, alarmed)
        if alarmed:
            _alarm(session, monitor, reference, row, judged, rows, alpha * weight)
    return True


def _detector(monitor: Monitor, reference: Reference, log_threshold: float) -> Detector:
    if monitor.state is not None:
        watch = restore(monitor.detector, monitor.state)
        if monitor.state.get("log_threshold") != log_threshold:
            watch.rethreshold(log_threshold)  # monitors came or went, so the budget is split anew
        return watch
    if monitor.detector == "exceedance":
        return detector("exceedance", {"reference": frozen_lines(reference), "log_threshold": log_threshold})
    return detector(monitor.detector, {**frozen_mean(reference).params(), "log_threshold": log_threshold})


def _reading(
    session: Session, monitor: Monitor, reference: Reference, rows: list[Row], names: dict[int, str], judged: Judged,
    start: int, end: int, alarmed: bool,
) -> Reading:  # fmt: skip
    seen = Counter(names[row.variant_id] for row in rows)
    row = Reading(
        monitor_id=monitor.id, reference_id=reference.id, block_start=start, block_end=end, n=judged.n,
        value=judged.value, statistic=_finite(judged.statistic), threshold=judged.threshold, alarmed=alarmed,
        created_at=now_us(),
        evidence={
            "variants": dict(seen), "after": monitor.cursor, "last": rows[-1].place, "sample_hash": sample_hash(rows),
            "level_mean": sum(row.level for row in rows) / len(rows), "since_blocks": judged.since_blocks,
            "detail": judged.detail,
        },
    )  # fmt: skip
    session.add(row)
    session.flush()
    return row


def _alarm(
    session: Session,
    monitor: Monitor,
    reference: Reference,
    row: Reading,
    judged: Judged,
    rows: list[Row],
    spent: float,
) -> None:
    event = DriftEvent(
        project_id=monitor.project_id, monitor_id=monitor.id, reading_id=row.id, detected_at=row.block_end,
        variant_id=Counter(one.variant_id for one in rows).most_common(1)[0][0],
        evidence={
            "statistic": _finite(judged.statistic), "threshold": judged.threshold, "alpha": spent,
            "blocks_per_year": blocks_per_year(monitor), "reference_id": reference.id, "n_reference": reference.n,
            "sample_hash": row.evidence["sample_hash"], "since_blocks": judged.since_blocks, "params": monitor.params,
        },
    )  # fmt: skip
    session.add(event)
    session.flush()
    incidents.open_incident(session, monitor, event)


def _move(session: Session, monitor: Monitor, **values: Any) -> bool:
    """Moves the monitor on if it still stands where this run read it."""
    return claim(
        session,
        Monitor,
        Monitor.id == monitor.id,
        Monitor.cursor == monitor.cursor,
        Monitor.status == monitor.status,
        **values,
    )


def _shares(session: Session, monitor: Monitor) -> tuple[float, float, float]:
    """The project's yearly budget, this monitor's share of it, and what is left of it for reference bounds."""
    project = session.get_one(Project, monitor.project_id)
    of_project = select(Monitor.weight).where(Monitor.project_id == project.id)
    total = sum(session.exec(of_project.where(Monitor.status != "paused"))) or monitor.weight
    frozen = session.exec(
        select(Reference.frozen)
        .join(Monitor, col(Monitor.id) == col(Reference.monitor_id))
        .where(Monitor.project_id == project.id, Reference.frozen_at > now_us() - YEAR)
    )
    alpha = project.false_alarms_per_year
    left = alpha / 2 - sum(reference.get("spent", 0.0) for reference in frozen)
    return alpha, monitor.weight / max(total, monitor.weight), left


def _names(session: Session, rows: list[Row]) -> dict[int, str]:
    ids = {row.variant_id for row in rows}
    return dict(session.exec(select(Variant.id, Variant.name).where(col(Variant.id).in_(ids))).all())


def sample_hash(rows: list[Row]) -> str:
    """Names the rows that were looked at, so that a reading can be recomputed and checked."""
    return hashlib.sha256(",".join(str(row.place) for row in rows).encode()).hexdigest()


def _finite(log: float) -> float:
    """Minus infinity (no evidence at all) as a number every database stores."""
    return max(log, -1e9)
