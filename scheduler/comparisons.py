"""Comparing two replays of the same golden version, with each scorer both were judged by."""

from typing import Any

from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col, func, select

from driftline.acts.coverage import newest_coverage
from driftline.acts.replays import DEFAULT_MARGIN, shared_scorers, why_unscored
from driftline.errors import DriftlineError
from driftline.moment import now_us
from driftline.store.engine import reading, writing
from driftline.store.tables import Answer, Comparison, GoldenItem, Replay, Score
from evaluators.comparison import (
    JudgeDrift,
    SelfNoise,
    bca,
    compare,
    judge_drift,
    once_per_item,
    self_noise,
    slices,
    with_self_noise,
    without_drift,
)
from evaluators.comparison.pairs import Scores
from scheduler.costs import cost_table, latencies
from scheduler.standing import canary_of, renew
from scheduler.verdicts import tell_of
from scheduler.work import Later, Work

KEPT_FLIPS = 500


def make(work: Work) -> Later | dict[str, Any]:
    """Compares args["candidate_replay_id"] with args["baseline_replay_id"] as soon as both are done."""
    margin = float(work.args.get("margin", DEFAULT_MARGIN))
    with reading() as session:
        candidate = session.get_one(Replay, work.args["candidate_replay_id"])
        baseline = session.get_one(Replay, work.args["baseline_replay_id"])
        canary = session.get_one(Replay, key) if (key := work.args.get("canary_replay_id")) else None
        if canary is not None and canary.state in ("queued", "running"):
            return Later(1.0, f"waiting for replay {canary.id}")
        seen = canary_of(session, canary, baseline) if canary is not None else work.args.get("canary")
    if canary is not None and seen is not None and seen["moved"]:
        return renew(work, baseline, seen)
    with reading() as session:
        for replay in (candidate, baseline):
            if replay.state in ("failed", "cancelled"):
                raise DriftlineError(
                    f"Replay {replay.id} {replay.state}, so there is nothing to compare. {replay.error or ''}".strip()
                )
            if replay.state != "done":
                return Later(1.0, f"waiting for replay {replay.id}")
        costs = cost_table(session, candidate, baseline)
    rows = []
    shared = shared_scorers(candidate, baseline)
    for number, evaluator in enumerate(shared):
        work.progress(number, len(shared), f"comparing by {evaluator}")
        with reading() as session:
            row = _compared(session, candidate, baseline, evaluator, margin, costs)
        if row is not None:
            row["evidence"]["canary"] = seen
            rows.append(row)
    if not rows:
        with reading() as session:
            why = "".join(_why_nothing(session, replay) for replay in (candidate, baseline))
        raise DriftlineError(
            f"No scorer gave both replay {candidate.id} ({', '.join(candidate.scorers)}) and replay {baseline.id} "
            f"({', '.join(baseline.scorers)}) a score on the same item, so they cannot be compared.{why}"
        )
    with writing() as session:
        work.mark(session, len(shared), len(shared))
        dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
        session.connection().execute(dialect.insert(Comparison).on_conflict_do_nothing(), rows)
        tell_of(session, candidate, baseline)
    return {row["evaluator"]: row["verdict"] for row in rows}


def _compared(
    session: Session, candidate: Replay, baseline: Replay, evaluator: str, margin: float, costs: list[dict[str, Any]]
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
    of_version = select(
        GoldenItem.id, GoldenItem.cluster, GoldenItem.weight, GoldenItem.tags
    ).where(GoldenItem.version_id == candidate.golden_version_id)  # fmt: skip
    items = {str(key): (cluster, weight, tags) for key, cluster, weight, tags in session.exec(of_version)}
    weighed = len({weight for _, weight, _ in items.values()}) > 1
    failed, failed_before = errors_of(session, candidate), errors_of(session, baseline)
    about: dict[str, Any] = {
        "margin": margin,
        "clusters": {key: cluster for key, (cluster, _, _) in items.items() if cluster} or None,
        "weights": {key: weight for key, (_, weight, _) in items.items()} if weighed else None,
        "errors": failed,
        "baseline_errors": failed_before,
    }
    decided_early = "early_stop" in candidate.plan and bool(candidate.looked) and candidate.stopped is not None
    result = compare(new, old, **about, stopped_early=decided_early)
    drift, own = judge_drift_of(candidate, baseline, evaluator), self_noise_of(candidate, baseline, evaluator)
    if own is not None:
        result = with_self_noise(result, own)
    if drift is not None:
        result = without_drift(result, drift)
    beside = None if decided_early or drift is not None else bca(new, old, **_of_items(about))
    judge = (_agreements(candidate, baseline, evaluator) | drift.to_json() if drift is not None else {}) | (
        own.to_json() if own is not None else {}
    )
    per_slice = slices(new, old, {key: tags for key, (_, _, tags) in items.items()}, **about)
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
            "latency": latencies(session, candidate, baseline),
            "costs": costs,
            "n_to_decide": result.n_to_decide,
            "n_if_as_seen": result.n_if_as_seen,
            "e_value": result.e_value,
            "bca": beside.to_json() if beside is not None else None,
            "errors": sorted(failed),
            "baseline_errors": sorted(failed_before),
            "stopped": candidate.stopped,
            "baseline_stopped": baseline.stopped,
            "items": candidate.n_items,
            "today": _today(session, candidate, new, old, about) if candidate.stopped is None else None,
            **({"judge": judge} if judge else {}),
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


def _of_items(about: dict[str, Any]) -> dict[str, Any]:
    return {name: known for name, known in about.items() if name != "margin"}


def _today(
    session: Session, candidate: Replay, new: Scores, old: Scores, about: dict[str, Any]
) -> dict[str, Any] | None:
    """The comparison as today's traffic would make it: items weighted by what they stand for; None without coverage."""
    seen = newest_coverage(session, candidate.golden_version_id)
    if seen is None or not seen.weights:
        return None
    known = {key: weight for key, weight in seen.weights.items() if key in new}
    if not known:
        return None
    sides = [{key: side[key] for key in known if key in side} for side in (new, old)]
    given = about["weights"] or {}
    weights = {key: weight * given.get(key, 1.0) for key, weight in known.items()}
    errors = {name: about[name] & known.keys() for name in ("errors", "baseline_errors")}
    found = compare(*sides, **(about | errors | {"weights": weights}))
    return {
        "coverage_id": seen.id, "outside": seen.outside, "outside_low": seen.low, "outside_high": seen.high,
        "n": found.n, "estimate": found.estimate, "low": found.low, "high": found.high, "verdict": found.verdict.value,
    }  # fmt: skip


def judge_drift_of(candidate: Replay, baseline: Replay, evaluator: str, level: float = 0.95) -> JudgeDrift | None:
    """How far the judge moved between the two replays; None where it has no anchors."""
    ours, theirs = candidate.judges.get(evaluator), baseline.judges.get(evaluator)
    if not (ours and theirs and "errors" in ours and "errors" in theirs):
        return None
    return judge_drift(ours["errors"], theirs["errors"], level)


def self_noise_of(candidate: Replay, baseline: Replay, evaluator: str, level: float = 0.95) -> SelfNoise | None:
    """How the judge differs from itself on the answers of both replays; None where it was asked once."""
    ours, theirs = (replay.judges.get(evaluator, {}).get("repeats") for replay in (candidate, baseline))
    return self_noise(ours, theirs, level) if ours and theirs else None


def _agreements(candidate: Replay, baseline: Replay, evaluator: str) -> dict[str, Any]:
    return {
        "agreement": candidate.judges[evaluator]["agreement"],
        "baseline_agreement": baseline.judges[evaluator]["agreement"],
    }


def scores_of(session: Session, replay: Replay, evaluator: str) -> tuple[dict[str, float | None], str]:
    """Item id → score of a replay by an evaluator (the mean of its repeats), and the version of the evaluator."""
    of_replay = (
        select(Answer.item_id, Score.value, Score.version)
        .join(Score, Score.answer_id == Answer.id)  # type: ignore[arg-type]
        .where(Answer.replay_id == replay.id, Score.evaluator == evaluator)
    )
    rows = session.exec(of_replay).all()
    scored = [(str(item), value) for item, value, _ in rows]
    return once_per_item(scored, repeats_are_draws=replay.repeats > 1), rows[0][2] if rows else ""


def errors_of(session: Session, replay: Replay) -> set[str]:
    """The items on which the variant gave an error instead of an answer, in every repeat."""
    failed = (
        select(Answer.item_id)
        .where(Answer.replay_id == replay.id)
        .group_by(col(Answer.item_id))
        .having(func.count(col(Answer.error)) == func.count(col(Answer.id)))
    )
    return {str(item) for item in session.exec(failed)}


def _why_nothing(session: Session, replay: Replay) -> str:
    """What kept a replay from being scored, as a sentence for those who read that it was not."""
    if replay.stopped:
        return f" Replay {replay.id} ended early: {replay.stopped}."
    because = why_unscored(session, replay.id)
    return f" In replay {replay.id}, for example: {because}." if because else ""
