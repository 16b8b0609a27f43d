"""Watching a stream: freeze its reference, then judge block after block of a fixed clock.

A row belongs to the block in which it arrived, so a late one joins the next block, once. The monitor's row holds how
far it has read and the detector's state; both move in one conditional update with the Reading, so that a job that runs
twice changes nothing and a killed one is repeated from where it stood.
"""

from collections import Counter
from typing import Any

from sqlmodel import Session, col, select

from driftline import __version__
from driftline.acts.signals import SIGNALS
from driftline.errors import BadInput, DriftlineError
from driftline.moment import MINUTE, SECOND, YEAR, now_us
from driftline.settings import settings
from driftline.store.artifacts import upload
from driftline.store.claims import claim
from driftline.store.engine import reading as reads
from driftline.store.engine import writing
from driftline.store.tables import DriftEvent, Monitor, Project, Reading, Reference, Variant
from evaluators.drift import Reading as Judged
from evaluators.drift.budget import allow
from scheduler import incidents, observations, releases, scoring
from scheduler.captured import captured_between
from scheduler.embedding import keep_vectors
from scheduler.judging import detector_of, evidence_of, finite, is_checkpoint, judge, kept_state, slim
from scheduler.references import blocks_per_year, freeze_rows, standing_reference
from scheduler.signals import (
    BARREN,
    Row,
    barren_end,
    count_records,
    first_arrival,
    last_place,
    most_of,
    read_rows,
    stretch_end,
)
from scheduler.values import usable
from scheduler.work import Later, Work

MOST_BLOCKS = 100  # judged in one turn of the job


def check(work: Work) -> Later | dict[str, Any]:
    """Judges every complete block that args["monitor_id"] has not judged yet."""
    monitor_id = work.args["monitor_id"]
    observations.count_captured(work, monitor_id)
    for judged in range(MOST_BLOCKS):
        with reads() as session:
            monitor = session.get_one(Monitor, monitor_id)
        if monitor.status == "paused" or not step(work, monitor):
            return {"blocks": judged}
    return Later(note=f"{MOST_BLOCKS} blocks judged, more are waiting")


def step(work: Work, monitor: Monitor) -> bool:
    """One step: skip what came during a pause, freeze the reference, or judge one block. False when none is due."""
    horizon = now_us() - int(settings().settle_s * SECOND)
    if SIGNALS[monitor.signal].reads == "scores":
        with reads() as session:
            scored = scoring.scored_until(session, monitor)
        horizon = horizon if scored is None else min(horizon, scored)
    if monitor.pending.get("skip"):
        return _skip(work, monitor, horizon)
    with reads() as session:
        barren = barren_end(session, monitor, after=monitor.cursor, before_us=horizon)
    if barren is not None:
        return _pass_over(work, monitor, barren)
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


def _pass_over(work: Work, monitor: Monitor, last: int) -> bool:
    """Moves on past records without any value, and says so where they were to be a reference."""
    told = {"problem": _none_has(monitor, BARREN)} if monitor.status == "collecting" else {}
    with writing() as session:
        work.hold(session)
        return _move(session, monitor, cursor=last, pending={**monitor.pending, **told})


def _collect(work: Work, monitor: Monitor, horizon: int) -> bool:
    wanted = int(monitor.pending.get("wanted", monitor.params["reference_items"]))
    span_us = int(monitor.params["reference_s"] * SECOND)
    with reads() as session:
        last = stretch_end(session, monitor, after=monitor.cursor, items=wanted, span_us=span_us, before_us=horizon)
        problem = _told(session, monitor, wanted) if last is None else ""
    if last is None:
        if problem and problem != monitor.pending.get("problem"):
            _tell(work, monitor, problem)
        return False
    with reads() as session:
        most = max(wanted, most_of(monitor)) if SIGNALS[monitor.signal].embeds else most_of(monitor)
        rows, unusable = usable(monitor, read_rows(session, monitor, after=monitor.cursor, up_to=last, most=most))
        shares = _shares(session, monitor)
    try:
        if not rows:
            raise BadInput(
                f"None of the {unusable} values that came can be judged: they are not finite, or outside [0, 1]."
            )
        with reads() as session:
            frozen, content = freeze_rows(session, monitor, rows, *shares)
    except BadInput as refused:
        _tell(work, monitor, refused.message, wanted=2 * wanted)
        return False
    except DriftlineError as refused:
        _tell(work, monitor, refused.message, wanted=wanted)
        return False
    frozen |= {"params": monitor.params, "unusable": unusable}
    stored = upload(content) if content is not None else None
    with writing() as session:
        work.hold(session)
        # Pairs are their own reference: those that were looked at for it are still to be judged.
        place = monitor.cursor if monitor.detector == "paired-texts" else last
        if not _move(session, monitor, cursor=place, status="watching", state=None, pending={}):
            return False
        if stored is not None:
            frozen["made"]["known"] = keep_vectors(session, monitor.project_id, stored)
        session.add(
            Reference(
                monitor_id=monitor.id, content_hash=frozen["content_hash"], n=len(rows), since=rows[0].started_at,
                until=rows[-1].started_at, frozen=frozen, frozen_at=now_us(),
            )
        )  # fmt: skip
    return True


def _told(session: Session, monitor: Monitor, wanted: int) -> str:
    """Why a reference does not fill although records come; empty where there is nothing to tell."""
    if SIGNALS[monitor.signal].reads != "traffic":
        return ""
    if first_arrival(session, monitor, after=monitor.cursor) is not None:
        return ""
    came = count_records(session, monitor, after=monitor.cursor, most=wanted)
    if came < wanted:
        return ""
    return _none_has(monitor, came)


def _none_has(monitor: Monitor, came: int) -> str:
    tags = monitor.params.get("tags")
    carrying = f" with the tags {tags}" if tags else ""
    return f"{came} records came and none{carrying} has what the signal {monitor.signal} reads."


def _tell(work: Work, monitor: Monitor, problem: str, **more: Any) -> None:
    with writing() as session:
        work.hold(session)
        _move(session, monitor, pending={**monitor.pending, "problem": problem, **more})


def _judge(work: Work, monitor: Monitor, horizon: int) -> bool:
    block_us = int(monitor.params["block_s"] * SECOND)
    with reads() as session:
        first = first_arrival(session, monitor, after=monitor.cursor)
        # Where a block has too few rows to be judged, the next block's rows join them.
        enough = first_arrival(session, monitor, after=monitor.cursor, skip=int(monitor.params["min_block_items"]) - 1)
        if first is None or enough is None:
            return False
        if first > horizon + block_us:  # a collector's clock was ahead and has been put back: judge what came since
            first = enough = horizon - block_us
        start, end = first // block_us * block_us, (max(first, enough) // block_us + 1) * block_us
        if end > horizon:
            return False
        last = last_place(session, monitor, after=monitor.cursor, before_us=end)
        if last == monitor.cursor:
            return False
        # All up to that place: two collectors may stamp and store rows in different orders, and none is passed over.
        rows = read_rows(session, monitor, after=monitor.cursor, up_to=last, most=most_of(monitor))
        reference = standing_reference(session, monitor)
        names = _names(session, rows)
        alpha, weight, _ = _shares(session, monitor)
        line = allow(blocks_per_year(monitor), alpha, weight).log_threshold
        try:
            watch = detector_of(monitor, reference.frozen, monitor.state, line)
        except BadInput as refused:
            problem = refused.message
        else:
            problem = ""
            before = slim(watch) if monitor.state is not None else None
            judged, good, unusable = judge(session, monitor, reference.frozen, watch, rows)
            captured = captured_between(
                session, monitor.project_id, start // MINUTE * MINUTE, end, _captured_before(session, monitor)
            )
    if problem:
        if problem != monitor.pending.get("problem"):
            _tell(work, monitor, problem)
        return False
    with writing() as session:
        work.hold(session)
        alarmed = judged.alarmed and monitor.status == "watching"
        checkpoint = is_checkpoint(monitor.state, alarmed)
        state = kept_state(watch, monitor.state, line, checkpoint)
        status = "alarmed" if alarmed else monitor.status
        if not _move(session, monitor, cursor=last, state=state, status=status, pending={}):
            return False
        evidence = {
            **evidence_of(monitor, judged, good, unusable, names, state), "after": monitor.cursor, "last": last,
            "captured": captured, **({"state": before} if checkpoint else {}),
        }  # fmt: skip
        row = Reading(
            monitor_id=monitor.id, reference_id=reference.id, block_start=start, block_end=end, n=judged.n,
            value=judged.value, statistic=finite(judged.statistic), threshold=judged.threshold, alarmed=alarmed,
            created_at=now_us(), evidence=evidence,
        )  # fmt: skip
        session.add(row)
        session.flush()
        if monitor.status == "alarmed":
            releases.look(session, monitor, reference, good)
        if alarmed:
            _alarm(session, monitor, reference, row, judged, good, alpha * weight)
    return True


def _captured_before(session: Session, monitor: Monitor) -> dict[str, Any] | None:
    newest = select(Reading.evidence).where(Reading.monitor_id == monitor.id).order_by(col(Reading.id).desc())
    evidence = session.exec(newest.limit(1)).first()
    return evidence.get("captured") if evidence else None


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
        variant_id=_commonest(rows),
        evidence={
            "statistic": finite(judged.statistic), "threshold": judged.threshold, "alpha": spent,
            "blocks_per_year": blocks_per_year(monitor), "reference_id": reference.id, "n_reference": reference.n,
            "sample_hash": row.evidence["sample_hash"], "since_blocks": judged.since_blocks, "params": monitor.params,
            "captured_share": row.evidence["captured"]["share"], "code": __version__, "detail": judged.detail,
        },
    )  # fmt: skip
    session.add(event)
    session.flush()
    incidents.open_incident(session, monitor, event)


def _commonest(rows: list[Row]) -> int | None:
    """The variant that most rows come from; None where they come from none."""
    counted = Counter(row.variant_id for row in rows if row.variant_id).most_common(1)
    return counted[0][0] if counted else None


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
