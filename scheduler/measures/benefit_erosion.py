"""What a variant was made for: is it still so much faster than its baseline, on the same golden items?

Each comparison of two replays is one block: of its paired items, those on which the variant was not faster by the
benefit are the bad ones. While at least half of all pairs keep it, the bad share stays below one half.
"""

from typing import Any

from sqlalchemy.orm import aliased
from sqlmodel import Session, col, func, select

from driftline.acts.matching import matches
from driftline.store.tables import Answer, Comparison, Replay, Variant
from scheduler.measures import Asked
from scheduler.measures.seen import Evidence, Seen

UNIT = "of the golden items no longer show the benefit"
AT_ONCE = 200


def line(condition: dict[str, Any]) -> float:
    """One half: the median pair."""
    return 0.5


def look(session: Session, project_id: int, rule: Asked, cursor: dict[str, Any], now: int) -> Seen:
    """One block per comparison that was made since the last look."""
    newest = session.exec(select(func.max(Comparison.id)).where(Comparison.project_id == project_id)).one() or 0
    after = int(cursor.get("comparison", newest))
    evidence = _blocks(session, project_id, rule, col(Comparison.id) > after)
    return Seen(evidence, cursor={"comparison": max(newest, after)})


def past(session: Session, project_id: int, rule: Asked, since: int, until: int) -> Seen:
    """One block per comparison of stored history."""
    where = (col(Comparison.created_at) >= since, col(Comparison.created_at) < until)
    return Seen(_blocks(session, project_id, rule, *where))


def _blocks(session: Session, project_id: int, rule: Asked, *where: Any) -> list[Evidence]:
    query = select(Comparison).where(Comparison.project_id == project_id, *where).order_by(col(Comparison.id))
    blocks, done = [], set()
    for comparison in session.exec(query.limit(AT_ONCE)).all():
        pair = (comparison.candidate_replay_id, comparison.baseline_replay_id)
        if pair in done:  # one per pair of replays, however many scorers compared it
            continue
        done.add(pair)
        names = [session.get_one(Variant, session.get_one(Replay, one).variant_id).name for one in pair]
        labels = {"variant": names[0], "baseline": names[1]}
        if matches(labels, rule.matchers):
            ratios = _ratios(session, *pair)
            bad = sum(ratio > 1 - float(rule.condition["benefit"]) for ratio in ratios)
            key = f"variant={names[0]},baseline={names[1]}"
            blocks.append(Evidence(key, labels, comparison.created_at, bad, len(ratios)))
    return blocks


def _ratios(session: Session, candidate: int, baseline: int) -> list[float]:
    mine, theirs = aliased(Answer), aliased(Answer)
    query = (
        select(mine.latency_ms, theirs.latency_ms)
        .join(theirs, col(theirs.item_id) == mine.item_id)
        .where(mine.replay_id == candidate, theirs.replay_id == baseline)
    )
    return [new / old for new, old in session.exec(query) if new is not None and old]
