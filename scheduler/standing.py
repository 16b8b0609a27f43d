"""Is the baseline still what its finished replay says? Some items answered again now, against the answers of then.

A remote model can change behind its name. Then a candidate would be compared with a model that is gone, so the baseline
is replayed anew, and the comparison waits for that.
"""

from typing import Any

from sqlmodel import Session, col, select

from driftline.acts.evaluators import evaluator_name
from driftline.acts.replays import replay_again
from driftline.store.claims import claim
from driftline.store.engine import writing
from driftline.store.tables import Answer, Job, Replay, Score
from evaluators.comparison import compare
from scheduler.work import Later, Work

ALPHA = 0.01  # share of unchanged baselines that are replayed anew for nothing


def canary_of(session: Session, canary: Replay, baseline: Replay) -> dict[str, Any]:
    """How many of the answers are the same, by how much their scores moved, and whether the baseline has changed."""
    if canary.state != "done":
        return {"replay_id": canary.id, "n": 0, "moved": False, "problem": canary.error or f"it was {canary.state}"}
    now, then = _answers(session, canary), _answers(session, baseline)
    common = now.keys() & then.keys()
    if not common:
        return {"replay_id": canary.id, "n": 0, "moved": False, "problem": "it answered nothing that the baseline did"}
    found = compare({key: now[key][1] for key in common}, {key: then[key][1] for key in common}, margin=None)
    same = sum(now[key][0] == then[key][0] for key in common)
    return {
        "replay_id": canary.id, "n": len(common), "same": same, "estimate": found.estimate, "p_value": found.p_value,
        "moved": found.n > 0 and found.p_value < ALPHA,
    }  # fmt: skip


def renew(work: Work, baseline: Replay, seen: dict[str, Any]) -> Later:
    """Asks for a new replay of the baseline and lets the comparison wait for it."""
    with writing() as session:
        work.hold(session)
        fresh = replay_again(session, session.get_one(Replay, baseline.id), "driftline: the baseline has changed")
        args = work.args | {
            "baseline_replay_id": fresh.id,
            "canary_replay_id": None,
            "canary": seen | {"stale_replay_id": baseline.id},
        }
        claim(session, Job, Job.id == work.job_id, args=args)
    return Later(1.0, f"the baseline has changed since replay {baseline.id}; waiting for replay {fresh.id}")


def _answers(session: Session, replay: Replay) -> dict[str, tuple[str, float | None]]:
    """Text and deciding score by item; an error scores 0."""
    evaluator = evaluator_name(replay.scorers[0])
    of_replay = (
        select(Answer.item_id, Answer.text, Answer.error, Score.value)
        .join(Score, (col(Score.answer_id) == Answer.id) & (col(Score.evaluator) == evaluator))
        .where(Answer.replay_id == replay.id)
    )
    return {str(item): (text, 0.0 if error else value) for item, text, error, value in session.exec(of_replay)}
