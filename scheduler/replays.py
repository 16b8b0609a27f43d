"""Replaying a golden version on a variant: answer, score and store, a few items at a time.

Items are taken in a fixed order and fixed batches, because the composition of a batch can change an answer in reduced
precision. A batch is one transaction, so a killed worker's successor goes on with the first unanswered batch.
"""

import time
from collections.abc import Sequence
from typing import Any

from sqlmodel import Session, col, select

from driftline.moment import now_us
from driftline.protocols import Answered, Completion, Generate, LogProbs, Sampling, Score, Scored
from driftline.store.claims import claim
from driftline.store.engine import reading, writing
from driftline.store.tables import Answer, GoldenItem, Replay, Variant
from driftline.store.tables import Score as ScoreRow
from evaluators.scorers import scorer
from scheduler.models import model_of
from scheduler.work import Later, LostJob, Work

BATCH = 8
TURN_S = 15.0  # after this long a replay lets other jobs of its queue have a turn


def run(work: Work) -> Later | dict[str, Any]:
    """Answers what args["replay_id"] has not answered yet."""
    replay_id = work.args["replay_id"]
    with reading() as session:
        replay = session.get_one(Replay, replay_id)
        variant = session.get_one(Variant, replay.variant_id)
        answered = set(session.exec(select(Answer.item_id).where(Answer.replay_id == replay_id)))
        of_version = select(GoldenItem).where(GoldenItem.version_id == replay.golden_version_id)
        items = session.exec(of_version.order_by(col(GoldenItem.position))).all()
    if replay.state not in ("queued", "running"):
        return {"state": replay.state}
    model = model_of(variant)
    with writing() as session:
        work.hold(session)
        claim(
            session,
            Replay,
            Replay.id == replay_id,
            Replay.state == "queued",
            state="running",
            fingerprint=model.fingerprint,
        )
    scorers = [scorer(name, model=model if isinstance(model, LogProbs) else None) for name in replay.scorers]
    sampling = sampling_of(replay.sampling)
    batches = [items[start : start + BATCH] for start in range(0, len(items), BATCH)]
    until = time.monotonic() + TURN_S
    for number, batch in enumerate(batches):
        if all(item.id in answered for item in batch):
            continue
        if time.monotonic() > until:
            return Later(note=f"{number * BATCH} of {len(items)} items answered")
        answer_batch(work, replay, batch, model, sampling, scorers)
        work.progress(min(len(items), (number + 1) * BATCH), len(items))
    with writing() as session:
        work.hold(session)
        claim(session, Replay, Replay.id == replay_id, Replay.state == "running", state="done", finished_at=now_us())
    return {"items": len(items), "fingerprint": model.fingerprint}


def answer_batch(
    work: Work,
    replay: Replay,
    batch: Sequence[GoldenItem],
    model: Generate,
    sampling: Sampling,
    scorers: Sequence[Score],
) -> None:
    """Answers, scores and stores one batch.

    Raises:
        LostJob: The replay was cancelled, or the job is no longer ours; nothing is stored then.
    """
    completions = model.generate([tuple(item.messages) for item in batch], sampling)
    judged = [
        Answered(tuple(item.messages), done.text, tuple(item.expected), item.rubric, item.tags, done.error)
        for item, done in zip(batch, completions, strict=True)
    ]
    scored = [(one, one(judged)) for one in scorers]
    with writing() as session:
        work.hold(session)
        if session.get_one(Replay, replay.id).state != "running":
            raise LostJob(f"replay {replay.id} was cancelled")
        for place, (item, done) in enumerate(zip(batch, completions, strict=True)):
            _store(session, replay, item, done, [(one, values[place]) for one, values in scored])


def _store(
    session: Session, replay: Replay, item: GoldenItem, done: Completion, scores: list[tuple[Score, Scored]]
) -> None:
    known = select(Answer.id).where(Answer.replay_id == replay.id, Answer.item_id == item.id)
    if session.exec(known).first() is not None:
        return
    now = now_us()
    answer = Answer(
        replay_id=replay.id, item_id=item.id, text=done.text, latency_ms=done.latency_ms, ttft_ms=done.ttft_ms,
        input_tokens=done.input_tokens, output_tokens=done.output_tokens, mean_logprob=done.mean_logprob,
        error=done.error, created_at=now,
    )  # fmt: skip
    session.add(answer)
    session.flush()
    for score, scored in scores:
        session.add(
            ScoreRow(
                project_id=replay.project_id,
                evaluator=score.name,
                version=score.version,
                answer_id=answer.id,
                value=scored.value,
                because=scored.because,
                created_at=now,
            )
        )


def sampling_of(stored: dict[str, Any]) -> Sampling:
    """The sampling that a replay's row asks for."""
    return Sampling(**{**stored, "stop": tuple(stored.get("stop", ()))})


def failed(session: Session, args: dict[str, Any], reason: str) -> None:
    """Writes on the replay why it could not be finished."""
    claim(
        session, Replay, Replay.id == args["replay_id"], col(Replay.state).in_(("queued", "running")),
        state="failed", error=reason, finished_at=now_us(),
    )  # fmt: skip
