"""The shadow of a re-optimization: the candidate answers the newest real prompts, and nobody sees the answers.

The prompts become a golden version of their own, so that the shadow is a replay and a comparison like any other: of the
candidate against what serves now, by errors and empty answers, and by the plan's evaluator where true answers came in.
"""

from typing import Any

from sqlmodel import Session, col, select

from driftline.acts.golden import canonical, import_items, role_of
from driftline.acts.replays import request_replay
from driftline.store.tables import Comparison, Generation, Job, Reoptimization, Replay, Variant
from scheduler.recent import truths_of
from scheduler.scoring import messages_of

SOURCE = "shadow"
LEAST_PROMPTS = 8


def begin(
    session: Session, row: Reoptimization, candidate: Variant, beside: Variant, items: int, actor: str,
    like: dict[str, Any],
) -> dict[str, Any] | None:  # fmt: skip
    """The replay of the newest prompts on the candidate; None where too few prompts are stored.

    `like` is the sampling and the scorers of the gate's replays.
    """
    of_route = select(Generation).where(
        Generation.project_id == row.project_id, Generation.route == row.route, col(Generation.input).is_not(None)
    )
    rows = session.exec(of_route.order_by(col(Generation.seq).desc()).limit(4 * items)).all()
    truths = truths_of(session, row.project_id, [one.id for one in rows])
    asked: dict[str, dict[str, Any]] = {}
    for one in rows:
        messages = messages_of(one.input)
        if messages and all(message["content"].strip() for message in messages):
            said = [{"role": role_of(message["role"]), "content": message["content"]} for message in messages]
            asked.setdefault(str(messages), {"input": said, "expected": truths.get(one.id)})
    chosen = list(asked.values())[:items]
    if len(chosen) < LEAST_PROMPTS:
        return None
    version, _ = import_items(
        session, row.project_id, f"shadow of {row.route}"[:64], [canonical(one) for one in chosen], actor, source=SOURCE
    )
    known = any(one["expected"] for one in chosen)
    replay = request_replay(
        session, row.project_id, candidate, version, actor, baseline=beside, margin=row.plan["margin"],
        sampling=like["sampling"], scorers=["empty", *(like["scorers"] if known else [])],
    )  # fmt: skip
    return {"replay_id": replay.id, "items": version.n_items, "beside": beside.name}


def judged(session: Session, row: Reoptimization, state: dict[str, Any]) -> tuple[bool, str] | None:
    """Whether the shadow did no harm, and in words; None while it is not known yet."""
    replay = session.get_one(Replay, state["replay_id"])
    if replay.state in ("failed", "cancelled"):
        return (
            False,
            f"The candidate could not answer real prompts: {replay.error or f'its replay was {replay.state}'}.",
        )
    found = session.exec(select(Comparison).where(Comparison.candidate_replay_id == replay.id)).all()
    if not found:
        jobs = select(Job).where(Job.kind == "comparison.make", Job.subject == f"replay:{replay.id}")
        job = session.exec(jobs.order_by(col(Job.id).desc())).first()
        if job is None or job.state in ("queued", "running"):
            return None
        return False, f"The shadow could not be compared: {job.error or job.state}."
    bad = [one for one in found if one.verdict == "worse"]
    words = ", ".join(f"{one.evaluator} {one.verdict} ({one.estimate:+.3f})" for one in bad or found)
    return not bad, f"On {state['items']} real prompts beside {state['beside']}: {words}."
