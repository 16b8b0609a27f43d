"""Looking at a replay while it runs: it ends as soon as the evidence decides.

Pairs are read in the order of the items, and only as far as every item before them is answered on both sides: slow
answers would otherwise come late, and slow answers may well be the wrong ones.
"""

from collections.abc import Sequence
from typing import Any

from sqlmodel import Session, col, select

from driftline.acts.evaluators import evaluator_name
from driftline.acts.replays import BATCH
from driftline.moment import now_us
from driftline.store.claims import claim
from driftline.store.engine import reading, writing
from driftline.store.tables import Answer, GoldenItem, Replay, Score
from evaluators.comparison import EarlyStop, Verdict, once_per_item
from scheduler.work import Work

MOST = 64 * BATCH  # items read in one look


def look(work: Work, replay: Replay, order: Sequence[int]) -> Verdict:
    """The verdict so far; where there is one, the replay is ended."""
    with reading() as session:
        row = session.get_one(Replay, replay.id)
        if row.state != "running":
            return Verdict.UNDECIDED
        chosen = row.plan["early_stop"]
        baseline = session.get_one(Replay, chosen["baseline_replay_id"])
        start = int(row.looked.get("items", 0))
        differences, read = _next(session, row, baseline, order[start:])
    if not read:
        return Verdict.UNDECIDED
    state = row.looked.get("evidence")
    stop = EarlyStop.resume(state) if state else EarlyStop(margin=chosen["margin"] or None, alpha=chosen["alpha"])
    verdict = stop.update(differences)
    looked = {"items": start + read, "evidence": stop.state()}
    with writing() as session:
        work.hold(session)
        unseen = (Replay.id == row.id, Replay.state == "running", Replay.looks == row.looks)
        ours = claim(session, Replay, *unseen, looks=row.looks + 1, looked=looked)
        if ours and verdict is not Verdict.UNDECIDED:
            _end(session, row, baseline, verdict, start + read)
    return verdict


def _end(session: Session, row: Replay, baseline: Replay, verdict: Verdict, items: int) -> None:
    said = f"{verdict.value} than the baseline" if verdict in (Verdict.WORSE, Verdict.BETTER) else "not worse"
    reason = f"after {items} items the evidence decides: {said}"
    running = Replay.state == "running"
    claim(session, Replay, Replay.id == row.id, running, state="done", stopped=reason, finished_at=now_us())
    of_baseline = select(Replay.id).where(
        Replay.golden_version_id == row.golden_version_id, Replay.id != row.id,
        col(Replay.state).in_(("queued", "running")), Replay.project_id == row.project_id,
    )  # fmt: skip
    waiting = [key for key in session.exec(of_baseline) if key != baseline.id]
    if not waiting:  # nobody else may be compared with it
        claim(session, Replay, Replay.id == baseline.id, running, state="done", stopped=reason, finished_at=now_us())


def _next(session: Session, row: Replay, baseline: Replay, rest: Sequence[int]) -> tuple[list[float], int]:
    """Paired differences of the items that follow, one per cluster or item, and how many items were read."""
    keys, after = rest[:MOST], rest[MOST : MOST + 1]
    evaluator = evaluator_name(row.scorers[0])
    ours, theirs = _scores(session, row, evaluator, keys), _scores(session, baseline, evaluator, keys)
    clusters = dict(
        session.exec(select(GoldenItem.id, GoldenItem.cluster).where(col(GoldenItem.id).in_([*keys, *after]))).all()
    )
    read = next((place for place, key in enumerate(keys) if key not in ours or key not in theirs), len(keys))
    while 0 < read < len(rest) and clusters[rest[read]] and clusters[rest[read]] == clusters[rest[read - 1]]:
        read -= 1  # a cluster is one bet, so it waits until it is whole
    sums: dict[Any, list[float]] = {}
    for key in keys[:read]:
        ours_one, theirs_one = ours[key], theirs[key]
        if ours_one is not None and theirs_one is not None:
            sums.setdefault(clusters[key] or key, []).append(ours_one - theirs_one)
    return [sum(some) / len(some) for some in sums.values()], read


def _scores(session: Session, replay: Replay, evaluator: str, keys: Sequence[int]) -> dict[int, float | None]:
    """Score by item of those that have all their repeats; an error is 0."""
    of_items = (
        select(Answer.item_id, Answer.error, Score.value)
        .join(Score, (col(Score.answer_id) == Answer.id) & (col(Score.evaluator) == evaluator))
        .where(Answer.replay_id == replay.id, col(Answer.item_id).in_(keys))
    )
    found = [(str(item), 0.0 if error else value) for item, error, value in session.exec(of_items)]
    return {int(item): value for item, value in once_per_item(found, repeats_are_draws=True).items()}
