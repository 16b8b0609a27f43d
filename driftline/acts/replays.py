"""Asking for a replay of a golden version on a variant, and for comparisons of replays."""

from typing import Any

from sqlmodel import Session, col, select

from driftline.errors import BadInput, Conflict
from driftline.moment import now_us
from driftline.queue import request
from driftline.store.claims import claim
from driftline.store.projects import audit
from driftline.store.tables import GoldenVersion, Job, Replay, Variant

DEFAULT_SCORERS = ("reference_likelihood", "token_f1", "contains")
WEIGHING = ("transformers", "llama_cpp")  # runners whose models say how likely a given answer is
DEFAULT_SAMPLING: dict[str, Any] = {"max_tokens": 24, "temperature": 0.0, "seed": 0}
DEFAULT_MARGIN = 0.02


def request_replay(
    session: Session,
    project_id: int,
    variant: Variant,
    version: GoldenVersion,
    actor: str,
    *,
    scorers: list[str] | None = None,
    sampling: dict[str, Any] | None = None,
    baseline: Variant | None = None,
    margin: float = DEFAULT_MARGIN,
) -> Replay:
    """A queued replay; with a baseline it is compared with that variant's replay of the same version when done.

    The baseline's newest finished replay with the same sampling and scorers is used, else one is asked for as well.

    Raises:
        BadInput: A variant that Driftline cannot run, because traffic registered its name without a recipe.
    """
    chosen_sampling = DEFAULT_SAMPLING | (sampling or {})
    chosen_scorers = list(scorers or scorers_for(variant, *filter(None, [baseline])))
    beside = None
    if baseline is not None and baseline.id != variant.id:
        beside = _standing(session, baseline, version, chosen_sampling, chosen_scorers) or _queue(
            session, project_id, baseline, version, actor, chosen_sampling, chosen_scorers
        )
    replay = _queue(session, project_id, variant, version, actor, chosen_sampling, chosen_scorers)
    if beside is not None:
        request_comparison(session, replay, beside, margin)
    return replay


def scorers_for(*variants: Variant) -> list[str]:
    """The default scorers by which all of these variants can be judged, the one that decides first."""
    weigh = all(variant.spec.get("runner") in WEIGHING for variant in variants)
    return [name for name in DEFAULT_SCORERS if weigh or name != "reference_likelihood"]


def request_comparison(session: Session, candidate: Replay, baseline: Replay, margin: float) -> Job:
    """A job that compares two replays with each scorer once both are done.

    Raises:
        Conflict: They ran on different golden versions; says what to do.
    """
    if candidate.golden_version_id != baseline.golden_version_id:
        raise Conflict(
            f"Replay {candidate.id} ran on golden version {candidate.golden_version_id}, replay {baseline.id} on "
            f"{baseline.golden_version_id}: only answers to the same items can "
            "be compared. Replay one of them again on the version of the other."
        )
    return request(
        session, "comparison.make", "drift",
        {"candidate_replay_id": candidate.id, "baseline_replay_id": baseline.id, "margin": margin},
        project_id=candidate.project_id, subject=f"replay:{candidate.id}",
        dedup_key=f"compare:{candidate.id}:{baseline.id}:{margin}", max_attempts=1000,
    )  # fmt: skip


def cancel_replay(session: Session, replay: Replay, actor: str) -> None:
    """Stops a replay that has not finished; what was answered stays.

    Raises:
        Conflict: It has finished.
    """
    unfinished = (Replay.id == replay.id, col(Replay.state).in_(("queued", "running")))
    taken = claim(session, Replay, *unfinished, state="cancelled", finished_at=now_us())
    session.refresh(replay)
    if not taken:
        raise Conflict(f"Replay {replay.id} is {replay.state} and cannot be cancelled.")
    audit(session, replay.project_id, actor, "replay.cancelled", f"replay:{replay.id}", {})


def _standing(
    session: Session, variant: Variant, version: GoldenVersion, sampling: dict[str, Any], scorers: list[str]
) -> Replay | None:
    of_both = select(Replay).where(Replay.variant_id == variant.id, Replay.golden_version_id == version.id)
    usable = of_both.where(col(Replay.state).in_(["done", "queued", "running"]))
    for replay in session.exec(usable.order_by(col(Replay.id).desc())):
        if replay.sampling == sampling and set(scorers) <= set(replay.scorers):
            return replay
    return None


def _queue(
    session: Session, project_id: int, variant: Variant, version: GoldenVersion, actor: str,
    sampling: dict[str, Any], scorers: list[str],
) -> Replay:  # fmt: skip
    if variant.spec.get("runner", "external") == "external":
        raise BadInput(
            f"The variant {variant.name} is known from traffic only; Driftline cannot run it. "
            f"Say how with `driftline variant add {variant.name} …`."
        )
    replay = Replay(
        project_id=project_id, variant_id=variant.id, golden_version_id=version.id, sampling=sampling, scorers=scorers,
        n_items=version.n_items, requested_by=actor, created_at=now_us(),
    )  # fmt: skip
    session.add(replay)
    session.flush()
    request(
        session, "replay.run", "replay", {"replay_id": replay.id}, project_id=project_id, subject=f"replay:{replay.id}",
        dedup_key=f"replay:{replay.id}", total=version.n_items, max_attempts=20,
    )  # fmt: skip
    audit(session, project_id, actor, "replay.requested", f"replay:{replay.id}", {"variant": variant.name})
    return replay
