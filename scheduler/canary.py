"""The canary of a re-optimization: judged record by record beside production, taken back when it is worse.

What is compared: the share of answers without an error, the share that came in the time that nine of ten production
answers needed before, and the scores that monitors of the route read. All tests together call a harmless canary worse
with probability at most `ALPHA`, however often they look.
"""

from collections.abc import Iterable
from typing import Any

from sqlmodel import Session, col, func, select

from driftline.moment import SECOND, now_us
from driftline.settings import settings
from driftline.store.tables import Generation, Monitor, Reoptimization, Score
from evaluators.comparison import SideBySide

ALPHA = 0.01
MARGINS = {"errors": 0.02, "latency": 0.1}
QUALITY_MARGIN = 0.02
SLOW = 0.9  # the quantile of production's latencies above which an answer counts as slow
LATENCIES = 2000
BATCH = 2000

State = dict[str, Any]
Arrival = tuple[bool, float]  # whether it is the canary's, and its score


def begin(session: Session, row: Reoptimization, canary_id: int, production_id: int) -> State:
    """The state of a canary that starts now."""
    evaluators = session.exec(
        select(Monitor.source).where(
            Monitor.project_id == row.project_id, Monitor.route == row.route, Monitor.signal == "quality"
        )
    ).all()
    slow_ms = _slow_ms(session, row, production_id)
    names = ["errors", *(["latency"] if slow_ms is not None else []), *sorted({f"score:{one}" for one in evaluators})]
    streams = {
        name: SideBySide(margin=MARGINS.get(name, QUALITY_MARGIN), alpha=ALPHA / len(names)).state() for name in names
    }
    return {
        "canary_id": canary_id, "production_id": production_id, "began_at": now_us(), "slow_ms": slow_ms,
        "first_seq": _newest(session, Generation.seq), "seq": _newest(session, Generation.seq),
        "score_id": _newest(session, Score.id), "streams": streams,
    }  # fmt: skip


def read(session: Session, row: Reoptimization, state: State) -> tuple[State, bool]:
    """The state after what has arrived since, and whether more waits to be read."""
    state = dict(state) | {"streams": dict(state["streams"])}
    horizon = now_us() - int(settings().settle_s * SECOND)
    both = [state["canary_id"], state["production_id"]]
    of_route = select(Generation).where(
        Generation.project_id == row.project_id, Generation.route == row.route, Generation.seq > state["seq"],
        Generation.received_at < horizon, col(Generation.variant_id).in_(both),
    )  # fmt: skip
    rows = session.exec(of_route.order_by(col(Generation.seq)).limit(BATCH)).all()
    counting = _firsts(session, row, state, rows)
    units = [one for one in rows if one.seq in counting]
    if rows:
        state["seq"] = rows[-1].seq
        _take(state, "errors", ((_is_canary(state, one), float(one.status != "error")) for one in units))
    slow_ms = state["slow_ms"]
    if slow_ms is not None:
        timed = [one for one in units if one.latency_ms is not None and one.status == "ok"]
        _take(state, "latency", ((_is_canary(state, one), float((one.latency_ms or 0.0) <= slow_ms)) for one in timed))
    scored = session.exec(
        select(Score, Generation)
        .join(Generation, col(Generation.seq) == col(Score.generation_seq))
        .where(
            Score.project_id == row.project_id,
            Score.id > state["score_id"],
            Generation.route == row.route,
            Generation.seq > state["first_seq"],
            col(Generation.variant_id).in_(both),
            Score.created_at < horizon,
        )
        .order_by(col(Score.id))
        .limit(BATCH)
    ).all()
    if scored:
        state["score_id"] = scored[-1][0].id
        firsts = _firsts(session, row, state, [one for _, one in scored])
        for name in state["streams"]:
            evaluator = name.partition("score:")[2]
            _take(state, name, (
                (_is_canary(state, one), min(max(score.value, 0.0), 1.0)) for score, one in scored
                if evaluator == score.evaluator and score.value is not None and one.seq in firsts
            ))  # fmt: skip
    return state, len(rows) == BATCH or len(scored) == BATCH


def worse(state: State) -> str | None:
    """Why the canary has to go, None while nothing speaks against it."""
    for name, stored in state["streams"].items():
        process = SideBySide.resume(stored)
        if process.evidence.decided:
            canary, production = process.mean(True), process.mean(False)
            words = {"errors": "answers without an error", "latency": "answers in time"}.get(
                name, name.partition(":")[2]
            )
            return (
                f"The canary is worse: {words} {canary:.3f} against {production:.3f} of production beside it, on "
                f"{process.seen[True]} and {process.seen[False]} answers (evidence {process.evidence.peak:.0f} to 1)."
            )
    return None


def answered(state: State) -> int:
    """How many answers of the canary were judged, one a session."""
    return SideBySide.resume(state["streams"]["errors"]).seen[True]


def summary(state: State) -> dict[str, Any]:
    """What the tests have seen, for people and the audit."""
    found = {}
    for name, stored in state["streams"].items():
        one = SideBySide.resume(stored)
        found[name] = {
            "canary": one.mean(True), "production": one.mean(False), "canary_n": one.seen[True],
            "production_n": one.seen[False], "evidence": one.evidence.peak, "line": 1 / one.worse.alpha,
        }  # fmt: skip
    return found


def _take(state: State, name: str, arrivals: Iterable[Arrival]) -> None:
    process = SideBySide.resume(state["streams"][name])
    process.update(arrivals)
    state["streams"][name] = process.state()


def _is_canary(state: State, one: Generation) -> bool:
    return bool(one.variant_id == state["canary_id"])


def _firsts(session: Session, row: Reoptimization, state: State, rows: Iterable[Generation]) -> set[int]:
    """Of these records the ones that count: those of no session, and each session's first since the canary began."""
    alone = {one.seq for one in rows if not one.session_id}
    named = sorted({one.session_id for one in rows if one.session_id})
    for start in range(0, len(named), 500):
        first = (
            select(func.min(Generation.seq))
            .where(
                Generation.project_id == row.project_id,
                Generation.route == row.route,
                Generation.seq > state["first_seq"],
                col(Generation.session_id).in_(named[start : start + 500]),
            )
            .group_by(col(Generation.session_id))
        )
        alone |= set(session.exec(first))
    return alone


def _slow_ms(session: Session, row: Reoptimization, production_id: int) -> float | None:
    before = select(Generation.latency_ms).where(
        Generation.project_id == row.project_id, Generation.route == row.route, Generation.status == "ok",
        Generation.variant_id == production_id, col(Generation.latency_ms).is_not(None),
    )  # fmt: skip
    values = sorted(ms for ms in session.exec(before.order_by(col(Generation.seq).desc()).limit(LATENCIES)) if ms)
    return values[int(SLOW * len(values))] if len(values) >= 20 else None


def _newest(session: Session, column: Any) -> int:
    return session.exec(select(func.max(column))).one() or 0
