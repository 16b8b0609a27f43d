"""The gate of a re-optimization: are its candidates no worse than the baseline, on the golden version's test items?

All candidates are judged in one decision, which knows how many they are and how often these items have decided before
(`evaluators.comparison.gate`). Each decision is a row, so that two of them cannot both be the first.
"""

import math
from typing import Any

from sqlmodel import Session, col, select

from driftline.moment import now_us
from driftline.store.hashing import content_hash
from driftline.store.tables import Answer, Comparison, GoldenItem, GoldenVersion, HeldOutUse, Reoptimization, Replay
from evaluators.comparison import alpha_of_use, gate, without_drift
from scheduler.comparisons import errors_of, judge_drift_of, scores_of

Entry = dict[str, Any]


def decide(session: Session, row: Reoptimization, entries: list[Entry]) -> dict[str, Any]:
    """Judges the entries that have a `comparison_id` and none of `passed`; fills them and says what it rests on.

    Each gets `verdict`, `estimate`, `low`, `high`, `n` and `passed`, at the level that the decision could afford.
    """
    judged = [entry for entry in entries if "passed" not in entry]
    if not judged:
        return {}
    version = session.get_one(GoldenVersion, row.plan["golden_version_id"], with_for_update=True)
    items = _test_items(session, version.id)
    if not items:
        for entry in judged:
            entry |= {"passed": False, "problem": "the golden version has no item that judges (split test)"}
        return {}
    use = _uses(session, row, version, items) + 1
    evaluator, margin = row.plan["evaluator"], row.plan["margin"]
    baseline = session.get_one(Replay, session.get_one(Comparison, judged[0]["comparison_id"]).baseline_replay_id)
    replays = {entry["name"]: session.get_one(Replay, entry["replay_id"]) for entry in judged}

    def held_out(replay: Replay) -> dict[str, float | None]:
        return {item: value for item, value in scores_of(session, replay, evaluator)[0].items() if item in items}

    def failed(replay: Replay) -> set[str]:
        return errors_of(session, replay) & items.keys()

    weighed = any(item.weight != 1 for item in items.values())
    found = gate(
        {name: held_out(replay) for name, replay in replays.items()}, held_out(baseline), margin=margin, use=use,
        clusters={key: item.cluster for key, item in items.items() if item.cluster} or None,
        weights={key: item.weight for key, item in items.items()} if weighed else None,
        errors={name: failed(replay) for name, replay in replays.items()}, baseline_errors=failed(baseline),
    )  # fmt: skip
    for entry in judged:
        result, replay = found[entry["name"]], replays[entry["name"]]
        drift = judge_drift_of(replay, baseline, evaluator, result.level)
        result = without_drift(result, drift) if drift is not None else result
        entry |= {
            "verdict": result.verdict.value, "estimate": result.estimate, "low": result.low, "high": result.high,
            "n": result.n, "n_to_decide": result.n_to_decide, "latency_p50_ms": median_latency(session, replay),
            "passed": result.verdict.passes,
        }  # fmt: skip
    alpha = alpha_of_use(use)
    session.add(
        HeldOutUse(
            project_id=row.project_id,
            golden_version_id=version.id,
            reoptimization_id=row.id,
            candidates=len(judged),
            alpha=alpha,
            created_at=now_us(),
        )
    )
    session.flush()
    return {
        "use": use, "alpha": alpha, "candidates": len(judged), "level": 1 - 2 * alpha / len(judged),
        "items": len(items), "baseline_replay_id": baseline.id,
    }  # fmt: skip


def uses_of(session: Session, project_id: int, version_id: int) -> int:
    """How many decisions the test items of a golden version have taken part in, those of other versions counted."""
    version = session.get_one(GoldenVersion, version_id)
    row = Reoptimization(project_id=project_id, subject_variant_id=0, created_at=0, updated_at=0)
    return _uses(session, row, version, _test_items(session, version_id))


def _uses(session: Session, row: Reoptimization, version: GoldenVersion, items: dict[str, GoldenItem]) -> int:
    """Earlier decisions, each counted for the share of these items that took part in it, rounded up.

    So a new version with a few more questions has judged as often as the one before, a wholly fresh one never.
    """
    of_project = select(HeldOutUse).where(HeldOutUse.project_id == row.project_id)
    earlier = [one.golden_version_id for one in session.exec(of_project) if one.reoptimization_id != row.id]
    ours = {_question(item) for item in items.values()}
    shares = {version.id: 1.0}
    for other in set(earlier) - {version.id}:
        theirs = {_question(item) for item in _test_items(session, other).values()}
        shares[other] = len(ours & theirs) / len(ours) if ours else 0.0
    return math.ceil(sum(shares[key] for key in earlier) - 1e-9)


def _question(item: GoldenItem) -> str:
    return content_hash(item.messages)  # whatever else of an item changes, a question that was seen was seen


def _test_items(session: Session, version_id: int) -> dict[str, GoldenItem]:
    of_version = select(GoldenItem).where(GoldenItem.version_id == version_id, GoldenItem.split == "test")
    return {str(item.id): item for item in session.exec(of_version)}


def median_latency(session: Session, replay: Replay) -> float | None:
    """The median latency of a replay's answers, milliseconds; None where none has one."""
    of_replay = select(Answer.latency_ms).where(Answer.replay_id == replay.id, col(Answer.latency_ms).is_not(None))
    values = sorted(ms for ms in session.exec(of_replay) if ms is not None)
    return values[len(values) // 2] if values else None
