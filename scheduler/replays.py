"""Replaying a golden version on a variant: answer, score and store, a few items at a time.

Items are taken in one shuffled order and in fixed batches, the same in every replay of the version: because the
composition of a batch can change an answer in reduced precision, and because evidence that is looked at early must come
in an order that has nothing to do with the answers. A batch is one transaction, so a killed worker's successor goes on
with the first unanswered batch. Several workers share a replay by shards: shard s of S answers batches s, s + S, ….
"""

import time
from collections.abc import Sequence
from typing import Any

from sqlmodel import Session, col, func, select

from driftline.acts.budgets import Budget
from driftline.acts.replays import BATCH
from driftline.moment import now_us
from driftline.protocols import Sampling
from driftline.store.claims import claim
from driftline.store.engine import reading, writing
from driftline.store.hashing import content_hash
from driftline.store.tables import Answer, GoldenItem, Replay, Variant
from scheduler import answers, looks
from scheduler.endpoints import Endpoint
from scheduler.measuring import Turn, watch_benefit
from scheduler.models import model_of
from scheduler.raters import raters_of
from scheduler.work import Later, LostJob, Work

TURN_S = 15.0  # after this long a replay lets other jobs of its queue have a turn


def run(work: Work) -> Later | dict[str, Any]:
    """Answers what shard args["shard"] of args["replay_id"] has not answered yet."""
    replay_id, shard = work.args["replay_id"], int(work.args.get("shard", 0))
    with reading() as session:
        replay = session.get_one(Replay, replay_id)
        variant = session.get_one(Variant, replay.variant_id)
    if replay.state not in ("queued", "running"):
        return {"state": replay.state}
    endpoint = Endpoint.of(variant.spec)
    if endpoint is not None and not endpoint.enter(work):
        return Later(1.0, f"waiting for one of {endpoint.slots} places at {endpoint.name}")
    try:
        return _answered(work, replay, variant, shard)
    finally:
        if endpoint is not None:
            endpoint.leave(work)


def _answered(work: Work, replay: Replay, variant: Variant, shard: int) -> Later | dict[str, Any]:
    model = model_of(variant)
    _begin(work, replay, model.fingerprint)
    with reading() as session:
        order = test_order(session, replay.golden_version_id)
        answered = set(session.exec(select(Answer.item_id).where(Answer.replay_id == replay.id)))
        source = answers.earlier(session, replay, model.fingerprint)
    maker = answers.Maker(replay, variant, model, raters_of(replay, model), source)
    shards, budget = int(replay.plan.get("shards", 1)), Budget.of(replay.plan.get("budget", {}))
    mine = batches_of(order, shard, shards, int(replay.plan.get("batch", BATCH)))
    until = time.monotonic() + TURN_S
    turn = Turn(model)
    done = sum(len(batch) for batch in mine if set(batch) <= answered)
    total = sum(map(len, mine))
    for batch in mine:
        if set(batch) <= answered:
            continue
        if time.monotonic() > until:
            _measured(work, replay, variant, turn)
            return Later(note=f"{done} of {total} items answered")
        if stopped(work, replay, budget):
            break
        done += maker.answer(work, batch, budget, progress=(done, total))
        if "early_stop" in replay.plan:
            looks.look(work, replay, order)
    ended = _end(work, replay, maker)
    _measured(work, replay, variant, turn)
    return ended


def _measured(work: Work, replay: Replay, variant: Variant, turn: Turn) -> None:
    """Writes what this turn took, and looks at the end whether the variant is still worth it."""
    with writing() as session:
        work.hold(session)
        turn.end(session, replay, session.get_one(Variant, variant.id))
        watch_benefit(session, session.get_one(Replay, replay.id), session.get_one(Variant, variant.id))


def _begin(work: Work, replay: Replay, fingerprint: str) -> None:
    with writing() as session:
        work.hold(session)
        waiting = (Replay.id == replay.id, Replay.state == "queued")
        claim(session, Replay, *waiting, state="running", fingerprint=fingerprint, started_at=now_us())


def _end(work: Work, replay: Replay, maker: "answers.Maker") -> dict[str, Any]:
    """Marks the replay done when no item is left, in whatever shard."""
    maker.judge_anchors(work)
    with writing() as session:
        work.hold(session)
        items = session.exec(
            select(func.count(func.distinct(col(Answer.item_id)))).where(Answer.replay_id == replay.id)
        ).one()
        if items >= replay.n_items:
            running = (Replay.id == replay.id, Replay.state == "running")
            claim(session, Replay, *running, state="done", finished_at=now_us())
    return {"items": items, "fingerprint": maker.fingerprint}


def stopped(work: Work, replay: Replay, budget: Budget) -> bool:
    """Whether the replay has come to an end; ends it where its budget is spent.

    Raises:
        LostJob: It was cancelled.
    """
    with reading() as session:
        row = session.get_one(Replay, replay.id)
    if row.state == "done":
        return True
    if row.state != "running":
        raise LostJob(f"replay {replay.id} was {row.state}")
    reason = budget.spent_by(row, now_us())
    if reason is not None:
        stop(work, replay, reason)
    return reason is not None


def stop(work: Work, replay: Replay, reason: str) -> None:
    """Ends a replay before all its items are answered, and says why."""
    with writing() as session:
        work.hold(session)
        running = (Replay.id == replay.id, Replay.state == "running")
        claim(session, Replay, *running, state="done", stopped=reason, finished_at=now_us())


def test_order(session: Session, version_id: int) -> list[int]:
    """The items that judge, in the shuffled order of every replay of the version; items of a cluster stay together."""
    of_version = select(GoldenItem.id, GoldenItem.content_hash, GoldenItem.cluster).where(
        GoldenItem.version_id == version_id, GoldenItem.split == "test"
    )
    keyed = [(content_hash(cluster) if cluster else digest, digest, key) for key, digest, cluster in
             session.exec(of_version)]  # fmt: skip
    return [key for _, _, key in sorted(keyed)]


def batches_of(order: Sequence[int], shard: int, shards: int, size: int) -> list[Sequence[int]]:
    """The batches of `size` item keys that a shard answers."""
    return [order[start : start + size] for start in range(shard * size, len(order), shards * size)]


def sampling_of(stored: dict[str, Any]) -> Sampling:
    """The sampling that a replay's row asks for."""
    return Sampling(**{**stored, "stop": tuple(stored.get("stop", ()))})


def failed(session: Session, args: dict[str, Any], reason: str) -> None:
    """Writes on the replay why it could not be finished."""
    claim(
        session, Replay, Replay.id == args["replay_id"], col(Replay.state).in_(("queued", "running")),
        state="failed", error=reason, finished_at=now_us(),
    )  # fmt: skip
