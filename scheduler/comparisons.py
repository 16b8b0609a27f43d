"""Comparing two replays of the same golden version, with each scorer both were judged by."""

from statistics import median
from typing import Any

from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col, select

from driftline.acts.replays import DEFAULT_MARGIN
from driftline.errors import DriftlineError
from driftline.moment import now_us
from driftline.store.engine import reading, writing
from driftline.store.tables import Answer, Comparison, GoldenItem, Replay, Score
from evaluators.comparison import compare, slices
from scheduler.work import Later, Work

KEPT_FLIPS = 500


def make(work: Work) -> Later | dict[str, Any]:
    """Compares args["candidate_replay_id"] with args["baseline_replay_id"] as soon as both are done."""
    margin = float(work.args.get("margin", DEFAULT_MARGIN))
    with reading() as session:
        candidate = session.get_one(Replay, work.args["candidate_replay_id"])
        baseline = session.get_one(Replay, work.args["baseline_replay_id"])
        for replay in (candidate, baseline):
            if replay.state in ("failed", "cancelled"):
                raise DriftlineError(
                    f"Replay {replay.id} {replay.state}, so there is nothing to compare. {replay.error or ''}".strip()
                )
            if replay.state != "done":
                return Later(1.0, f"waiting for replay {replay.id}")
        shared = [name for name in candidate.scorers if name in baseline.scorers]
        compared = [_compared(session, candidate, baseline, evaluator, margin) for evaluator in shared]
        rows = [row for row in compared if row is not None]
    if not rows:
        raise DriftlineError(
            f"No scorer gave both replay {candidate.id} ({', '.join(candidate.scorers)}) and replay {baseline.id} "
            f"({', '.join(baseline.scorers)}) a score on the same item, so they cannot be compared."
        )
    with writing() as session:
        work.hold(session)
        dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
        session.connection().execute(dialect.insert(Comparison).on_conflict_do_nothing(), rows)
    return {row["evaluator"]: row["verdict"] for row in rows}


def _compared(
    session: Session, candidate: Replay, baseline: Replay, evaluator: str, margin: float
) -> dict[str, Any] | None:
    new, version = scores_of(session, candidate, evaluator)
    old, old_version = scores_of(session, baseline, evaluator)
    if all(value is None or old.get(item) is None for item, value in new.items()):
        return None
    if version != old_version:
        raise DriftlineError(
            f"Replay {candidate.id} was scored by {evaluator} {version}, replay {baseline.id} by {old_version}. "
            "Replay the older one again, so that one version of the scorer judges both."
        )
    of_version = select(GoldenItem).where(GoldenItem.version_id == candidate.golden_version_id)
    items = {str(item.id): item for item in session.exec(of_version)}
    clusters = {key: item.cluster for key, item in items.items() if item.cluster}
    failed, failed_before = errors_of(session, candidate), errors_of(session, baseline)
    weights = {key: item.weight for key, item in items.items()} if any(i.weight != 1 for i in items.values()) else None
    tags = {key: item.tags for key, item in items.items()}
    result = compare(
        new,
        old,
        margin=margin,
        clusters=clusters or None,
        weights=weights,
        errors=failed,
        baseline_errors=failed_before,
    )
    per_slice = slices(
        new, old, tags, margin=margin, clusters=clusters or None, weights=weights, errors=failed,
        baseline_errors=failed_before,
    )  # fmt: skip
    return {
        "project_id": candidate.project_id, "candidate_replay_id": candidate.id, "baseline_replay_id": baseline.id,
        "evaluator": evaluator, "evaluator_version": version, "margin": margin, "level": result.level, "n": result.n,
        "unscored": result.unscored, "candidate_mean": result.candidate_mean, "baseline_mean": result.baseline_mean,
        "estimate": result.estimate, "low": result.low,
        "high": result.high, "better": result.better, "worse": result.worse, "ties": result.ties,
        "p_value": result.p_value, "verdict": result.verdict.value, "method": result.method,
        "evidence": {
            "flips": [
                {"item_id": int(key), "baseline": before, "candidate": after}
                for key, before, after in result.flips[:KEPT_FLIPS]
            ],
            "flips_total": len(result.flips),
            "latency": _latencies(session, candidate, baseline),
            "n_to_decide": result.n_to_decide,
            "e_value": result.e_value,
            "errors": sorted(failed),
            "baseline_errors": sorted(failed_before),
        },
        "slices": [
            {
                "slice": one.name, "n": one.comparison.n, "estimate": one.comparison.estimate,
                "low": one.comparison.low, "high": one.comparison.high, "verdict": one.finding.value,
            }
            for one in per_slice
        ],
        "created_at": now_us(),
    }  # fmt: skip


def scores_of(session: Session, replay: Replay, evaluator: str) -> tuple[dict[str, float | None], str]:
    """Item id → score of a replay by an evaluator, and the version of the evaluator."""
    of_replay = (
        select(Answer.item_id, Score.value, Score.version)
        .join(Score, Score.answer_id == Answer.id)  # type: ignore[arg-type]
        .where(Answer.replay_id == replay.id, Score.evaluator == evaluator)
    )
    rows = session.exec(of_replay).all()
    return {str(item): value for item, value, _ in rows}, rows[0][2] if rows else ""


def errors_of(session: Session, replay: Replay) -> set[str]:
    """The items on which the variant gave an error instead of an answer."""
    failed = select(Answer.item_id).where(Answer.replay_id == replay.id, col(Answer.error).is_not(None))
    return {str(item) for item in session.exec(failed)}


def _latencies(session: Session, candidate: Replay, baseline: Replay) -> dict[str, float]:
    figures: dict[str, float] = {}
    for side, replay in (("candidate", candidate), ("baseline", baseline)):
        values = [
            ms for ms in session.exec(select(Answer.latency_ms).where(Answer.replay_id == replay.id)) if ms is not None
        ]
        if values:
            ranked = sorted(values)
            figures[f"{side}_p50"] = median(ranked)
            figures[f"{side}_p95"] = ranked[min(len(ranked) - 1, int(0.95 * len(ranked)))]
    return figures
