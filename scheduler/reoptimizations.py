"""The way back, once approved: build, replay, gate, and roll out the best candidate, or none.

`advance` takes one step at a time and asks to be called again; every step is a conditional update with an audit row, so
a killed worker's successor goes on where it stood, and what an earlier run asked for is found, not asked for twice.
"""

from typing import Any

from sqlmodel import Session, col, select

from driftline.acts.evaluators import evaluator_name
from driftline.acts.reoptimizations import AT_WORK, end, expiry, move
from driftline.acts.replays import cancel_replay, request_replay, scorers_for, standing_replay
from driftline.acts.variants import declare, request_build
from driftline.errors import Conflict
from driftline.moment import HOUR, now_us
from driftline.settings import settings
from driftline.store.artifacts import Stored, keep, upload
from driftline.store.claims import claim
from driftline.store.engine import reading, writing
from driftline.store.hashing import content_hash
from driftline.store.tables import Comparison, GoldenVersion, Job, Reoptimization, Replay, Variant
from scheduler import frontier, gate, rollout
from scheduler.evidence import MEDIA_TYPE, bundle
from scheduler.proposals import ACTOR
from scheduler.work import Later, Work

POLL_S = 1.0
UNFINISHED = ("queued", "running")


def advance(work: Work) -> Later | dict[str, Any]:
    """Takes args["reoptimization_id"] one step on."""
    stored = _evidence(work.args["reoptimization_id"])
    with writing() as session:
        work.hold(session)
        row = session.get_one(Reoptimization, work.args["reoptimization_id"], with_for_update=True)
        stood = row.state
        try:
            match stood:
                case "approved":
                    _start_building(session, row)
                case "building":
                    if not _start_replaying(session, row):
                        return Later(POLL_S, "candidates are being built")
                case "replaying":
                    if not _gate(session, row):
                        return Later(POLL_S, "candidates are being replayed")
                case "gated":
                    _conclude(session, row, stored)
                case "shadow":
                    if not rollout.watch_shadow(session, row):
                        return Later(POLL_S, "the candidate answers real prompts unseen")
                case "canary":
                    if not rollout.watch_canary(session, row):
                        return Later(rollout.LOOK_S, "the canary answers beside production")
                case ended:
                    return {"state": ended}
        except Conflict:
            session.rollback()
            if row.state == stood:
                raise
            return {"state": row.state}  # a person cancelled it in this very moment; nothing of this step stays
        return Later(note=row.state)


def failed(session: Session, args: dict[str, Any], reason: str) -> None:
    """Ends a repair whose job failed for good."""
    row = session.get_one(Reoptimization, args["reoptimization_id"])
    if row.state in AT_WORK:
        end(session, row, AT_WORK, "failed", ACTOR, reason)


def withdraw_expired(session: Session) -> int:
    """Ends what waited too long for a decision; gives how many there were."""
    late = select(Reoptimization).where(
        col(Reoptimization.state).in_(("proposed", "ready")), col(Reoptimization.expires_at) < now_us()
    )
    rows = session.exec(late.limit(100)).all()
    for row in rows:
        end(session, row, ("proposed", "ready"), "expired", ACTOR, "Nobody decided on it in time.")
    return len(rows)


def _start_building(session: Session, row: Reoptimization) -> None:
    subject = session.get_one(Variant, row.subject_variant_id)
    baseline = session.get_one(Variant, row.baseline_variant_id)
    entries: list[dict[str, Any]] = []
    for candidate in row.plan["candidates"]:
        back = candidate["name"] == baseline.name
        variant = baseline if back else _declared(session, row, candidate, subject)
        if variant.build_state != "built":
            request_build(session, variant, ACTOR)
        entries.append({"variant_id": variant.id, "name": variant.name, "why": candidate["why"]})
    hours = float(row.plan.get("budget_hours") or settings().repair_hours)
    evidence = {"candidates": entries, "stops_at": now_us() + int(hours * HOUR), "budget_hours": hours}
    move(session, row, ("approved",), "building", ACTOR, evidence=evidence)


def _declared(session: Session, row: Reoptimization, candidate: dict[str, Any], subject: Variant) -> Variant:
    """The candidate as a variant; where its name stands for another recipe, the name gets a piece of its hash."""
    name, spec = candidate["name"], candidate["spec"]
    try:
        return declare(session, row.project_id, name, spec, ACTOR, subject)
    except Conflict:
        return declare(session, row.project_id, f"{name}-{content_hash(spec)[:8]}", spec, ACTOR, subject)


def _is_over(row: Reoptimization) -> bool:
    return bool(now_us() > row.evidence["stops_at"])


def _start_replaying(session: Session, row: Reoptimization) -> bool:
    entries = [dict(entry) for entry in row.evidence["candidates"]]
    variants = [session.get_one(Variant, entry["variant_id"]) for entry in entries]
    unbuilt = [variant for variant in variants if variant.build_state in ("declared", "building")]
    if unbuilt and not _is_over(row):
        return False
    for variant in unbuilt:
        _stop_build(session, variant, f"not built within the budget of {row.evidence['budget_hours']:g} hours")
    golden = session.get_one(GoldenVersion, row.plan["golden_version_id"])
    baseline = session.get_one(Variant, row.baseline_variant_id)
    like = replay_like(session, row)
    for entry, variant in zip(entries, variants, strict=True):
        if variant.build_state == "failed":
            entry |= {"passed": False, "problem": variant.build_error}
            continue
        entry["bytes_stored"] = variant.measured.get("bytes_stored")
        replay = request_replay(
            session, row.project_id, variant, golden, ACTOR, baseline=baseline, margin=row.plan["margin"], **like
        )
        entry["replay_id"] = replay.id
    evidence = row.evidence | {"candidates": entries, "before": _before(session, row, golden, like)}
    move(session, row, ("building",), "replaying", ACTOR, evidence=evidence)
    return True


def _stop_build(session: Session, variant: Variant, problem: str) -> None:
    claim(
        session, Job, Job.dedup_key == f"build:{variant.id}", col(Job.state).in_(UNFINISHED),
        state="cancelled", dedup_key=None, finished_at=now_us(), error=problem,
    )  # fmt: skip
    variant.build_state, variant.build_error = "failed", problem
    session.add(variant)


def _before(
    session: Session, row: Reoptimization, golden: GoldenVersion, like: dict[str, Any]
) -> dict[str, Any] | None:
    """What shall be replaced, replayed the same way: what the candidates are to improve. None where it cannot run."""
    subject = session.get_one(Variant, row.subject_variant_id)
    if subject.spec.get("runner") == "external":
        return None
    sampling, scorers = like["sampling"], like["scorers"]
    standing = standing_replay(session, subject, golden, sampling, scorers)
    replay = standing or request_replay(session, row.project_id, subject, golden, ACTOR, **like)
    return {"name": subject.name, "replay_id": replay.id, "bytes_stored": subject.measured.get("bytes_stored")}


def replay_like(session: Session, row: Reoptimization) -> dict[str, Any]:
    """Sampling and scorers of the baseline's last replay on the plan's golden version, so that it can be used again.

    The evaluator that the plan is decided by is always among the scorers.
    """
    of_baseline = select(Replay).where(
        Replay.variant_id == row.baseline_variant_id, Replay.golden_version_id == row.plan["golden_version_id"],
        Replay.state == "done",
    )  # fmt: skip
    replay = session.exec(of_baseline.order_by(col(Replay.id).desc())).first()
    sides = (session.get_one(Variant, key) for key in (row.subject_variant_id, row.baseline_variant_id))
    known = scorers_for(*sides) if replay is None else replay.scorers
    deciding = row.plan["evaluator"]
    alike = [name for name in known if evaluator_name(name) == deciding] or [deciding]
    scorers = [*alike, *(name for name in known if name not in alike)]
    return {"sampling": replay.sampling if replay is not None else None, "scorers": scorers}


def _gate(session: Session, row: Reoptimization) -> bool:
    entries = [dict(entry) for entry in row.evidence["candidates"]]
    over = _is_over(row)
    for entry in entries:
        if "passed" in entry:
            continue
        if entry["variant_id"] == row.baseline_variant_id:
            entry |= {"verdict": "equivalent", "estimate": 0.0, "low": 0.0, "high": 0.0, "passed": True}
            entry["why"] += ": it is the baseline itself, so there is nothing to compare"
            continue
        replay = session.get_one(Replay, entry["replay_id"])
        if over and replay.state in UNFINISHED:
            cancel_replay(session, replay, ACTOR)
            entry |= {
                "passed": False,
                "problem": f"not replayed in the budget of {row.evidence['budget_hours']:g} hours",
            }
            continue
        if replay.state in ("failed", "cancelled"):
            entry |= {"passed": False, "problem": replay.error or f"its replay was {replay.state}"}
            continue
        judged = select(Comparison).where(
            Comparison.candidate_replay_id == replay.id, Comparison.evaluator == row.plan["evaluator"],
            Comparison.margin == row.plan["margin"],
        )  # fmt: skip
        comparison = session.exec(judged).first()
        if comparison is None:
            problem = _why_uncompared(session, replay, row.plan["evaluator"])
            if problem is None:
                return False
            entry |= {"passed": False, "problem": problem}
            continue
        entry["comparison_id"] = comparison.id
    before = _measured_before(session, row)
    if before is False and not over:
        return False
    decision = gate.decide(session, row, entries)
    frontier.mark(entries)
    evidence = row.evidence | {"candidates": entries, "gate": decision, "before": before or None}
    told = {"gate": decision, "verdicts": {one["name"]: one.get("verdict") or one.get("problem") for one in entries}}
    move(session, row, ("replaying",), "gated", ACTOR, told=told, evidence=evidence)
    return True


def _measured_before(session: Session, row: Reoptimization) -> Any:
    """What is known of the variant to be replaced; None where it could not be replayed, False while it is."""
    before = row.evidence.get("before")
    if not before:
        return None
    replay = session.get_one(Replay, before["replay_id"])
    if replay.state in UNFINISHED:
        return False
    return before | {"latency_p50_ms": gate.median_latency(session, replay)} if replay.state == "done" else None


def _why_uncompared(session: Session, replay: Replay, evaluator: str) -> str | None:
    """Why the comparison that the gate needs will never come; None while it may."""
    jobs = select(Job).where(Job.kind == "comparison.make", Job.subject == f"replay:{replay.id}")
    job = session.exec(jobs.order_by(col(Job.id).desc())).first()
    if job is None or job.state in UNFINISHED:
        return None
    return job.error if job.state == "failed" else f"it was not judged by {evaluator}"


def _best(row: Reoptimization) -> dict[str, Any] | None:
    return frontier.choose(row.evidence["candidates"], row.plan.get("aim", "size"), row.evidence.get("before"))


def _evidence(key: int) -> Stored | None:
    """The evidence of a repair that has just passed the gate, uploaded before the transaction that names it."""
    with reading() as session:
        row = session.get_one(Reoptimization, key)
        if row.state != "gated" or row.candidate_variant_id is not None or (best := _best(row)) is None:
            return None
        content = bundle(session, row, row.evidence, best["variant_id"])
    return upload(content)


def _conclude(session: Session, row: Reoptimization, stored: Stored | None) -> None:
    """Rejects, asks for the release, or begins the roll-out."""
    if row.candidate_variant_id is None:
        best = _best(row)
        if best is None:
            end(session, row, ("gated",), "rejected", ACTOR, _why_none(row))
            return
        if stored is None:
            return  # it passed only now: the next step brings its evidence
        row.candidate_variant_id = best["variant_id"]
        kept = keep(session, row.project_id, stored, kind="evidence", media_type=MEDIA_TYPE)
        row.bundle_sha256 = kept.sha256
        session.add(row)
        session.flush()
    if row.plan.get("hold"):
        move(session, row, ("gated",), "ready", ACTOR, rollout.praise(row), expires_at=expiry(),
             told={"bundle": row.bundle_sha256})  # fmt: skip
        return
    rollout.begin(session, row, replay_like(session, row))


def _why_none(row: Reoptimization) -> str:
    entries = row.evidence["candidates"]
    if any(entry.get("passed") for entry in entries):
        aim = row.plan["aim"]
        return f"Candidates passed the gate, but none is better in {aim} than what serves now."
    verdicts = ", ".join(f"{e['name']}: {e.get('verdict') or e.get('problem')}" for e in entries)
    return f"No candidate passed the gate ({verdicts})."
