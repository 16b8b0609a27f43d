"""The way back: propose a repair when the variant is to blame; once approved build, replay, gate, promote or reject it.

`advance` takes one step at a time and asks to be called again; every step is a conditional update with an audit row, so
a killed worker's successor goes on where it stood, and what an earlier run asked for is found, not asked for twice.
"""

from typing import Any

from sqlmodel import Session, col, select

from driftline.acts.evaluators import evaluator_name
from driftline.acts.monitors import close_event
from driftline.acts.reoptimizations import AT_WORK, move
from driftline.acts.replays import DEFAULT_MARGIN, request_replay, scorers_for
from driftline.acts.variants import declare, find_route, promote, request_build
from driftline.errors import Conflict
from driftline.moment import now_us
from driftline.store.engine import writing
from driftline.store.hashing import content_hash
from driftline.store.projects import audit
from driftline.store.tables import (
    Answer,
    Comparison,
    DriftEvent,
    GoldenSet,
    GoldenVersion,
    Job,
    Reoptimization,
    Replay,
    Variant,
)
from scheduler.plans import candidates_for
from scheduler.work import Later, Work

ACTOR = "driftline"
PASSING = ("better", "equivalent", "not_worse")
POLL_S = 1.0


def propose(
    session: Session, event: DriftEvent, route_name: str, because: str, judged: Comparison | None
) -> Reoptimization | None:
    """A proposal to repair the variant an event blames; None when one stands already or nothing can be proposed.

    Candidates will be gated by the evaluator and the margin that `judged` the variant itself, where it was.
    """
    route = find_route(session, event.project_id, route_name)
    if event.variant_id is None:
        return None
    subject = session.get_one(Variant, event.variant_id)
    standing = select(Reoptimization).where(
        Reoptimization.project_id == event.project_id, Reoptimization.subject_variant_id == subject.id,
        col(Reoptimization.state).in_(("proposed", *AT_WORK)),
    )  # fmt: skip
    if session.exec(standing).first() is not None:
        return None
    baseline = session.get(Variant, route.baseline_variant_id) if route.baseline_variant_id else None
    golden = _golden(session, event.project_id, subject)
    candidates = candidates_for(subject.name, subject.spec, (baseline.name, baseline.spec) if baseline else None)
    if golden is None or baseline is None or baseline.id == subject.id or not candidates:
        return None
    now = now_us()
    row = Reoptimization(
        project_id=event.project_id, route=route.name, drift_event_id=event.id, subject_variant_id=subject.id,
        baseline_variant_id=baseline.id, created_at=now, updated_at=now,
        plan={
            "because": because, "cause": event.cause, "candidates": candidates, "golden_version_id": golden.id,
            "evaluator": judged.evaluator if judged else scorers_for(subject, baseline)[0],
            "margin": judged.margin if judged else DEFAULT_MARGIN,
        },
    )  # fmt: skip
    session.add(row)
    session.flush()
    audit(session, row.project_id, ACTOR, "reoptimization.proposed", f"reoptimization:{row.id}", {"event": event.id})
    return row


def _golden(session: Session, project_id: int, variant: Variant) -> GoldenVersion | None:
    """The golden version the variant was last judged on, else the project's newest."""
    judged = (
        select(Replay).where(Replay.variant_id == variant.id, Replay.state == "done").order_by(col(Replay.id).desc())
    )
    replay = session.exec(judged).first()
    if replay is not None:
        return session.get(GoldenVersion, replay.golden_version_id)
    sets = select(GoldenSet.id).where(GoldenSet.project_id == project_id)
    newest = select(GoldenVersion).where(col(GoldenVersion.golden_set_id).in_(sets))
    return session.exec(newest.order_by(col(GoldenVersion.id).desc())).first()


def advance(work: Work) -> Later | dict[str, Any]:
    """Takes args["reoptimization_id"] one step on."""
    with writing() as session:
        work.hold(session)
        row = session.get_one(Reoptimization, work.args["reoptimization_id"])
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
                    _conclude(session, row)
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
        move(session, row, AT_WORK, "failed", ACTOR, reason, finished_at=now_us())


def _start_building(session: Session, row: Reoptimization) -> None:
    subject = session.get_one(Variant, row.subject_variant_id)
    baseline = session.get_one(Variant, row.baseline_variant_id)
    evidence: list[dict[str, Any]] = []
    for candidate in row.plan["candidates"]:
        back = candidate["name"] == baseline.name
        variant = baseline if back else _declared(session, row, candidate, subject)
        if variant.build_state != "built":
            request_build(session, variant, ACTOR)
        evidence.append({"variant_id": variant.id, "name": variant.name, "why": candidate["why"]})
    move(session, row, ("approved",), "building", ACTOR, evidence={"candidates": evidence})


def _declared(session: Session, row: Reoptimization, candidate: dict[str, Any], subject: Variant) -> Variant:
    """The candidate as a variant; where its name stands for another recipe, the name gets a piece of its hash."""
    name, spec = candidate["name"], candidate["spec"]
    try:
        return declare(session, row.project_id, name, spec, ACTOR, subject)
    except Conflict:
        return declare(session, row.project_id, f"{name}-{content_hash(spec)[:8]}", spec, ACTOR, subject)


def _start_replaying(session: Session, row: Reoptimization) -> bool:
    entries = [dict(entry) for entry in row.evidence["candidates"]]
    variants = [session.get_one(Variant, entry["variant_id"]) for entry in entries]
    if any(variant.build_state in ("declared", "building") for variant in variants):
        return False
    golden = session.get_one(GoldenVersion, row.plan["golden_version_id"])
    baseline = session.get_one(Variant, row.baseline_variant_id)
    model = _replay_like(session, row)
    for entry, variant in zip(entries, variants, strict=True):
        if variant.build_state == "failed":
            entry |= {"passed": False, "problem": variant.build_error}
            continue
        entry["bytes_stored"] = variant.measured.get("bytes_stored")
        replay = request_replay(
            session, row.project_id, variant, golden, ACTOR, baseline=baseline, margin=row.plan["margin"], **model
        )
        entry["replay_id"] = replay.id
    move(session, row, ("building",), "replaying", ACTOR, evidence={"candidates": entries})
    return True


def _replay_like(session: Session, row: Reoptimization) -> dict[str, Any]:
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
    for entry in entries:
        if "passed" in entry:
            continue
        if entry["variant_id"] == row.baseline_variant_id:
            entry |= {"verdict": "equivalent", "estimate": 0.0, "low": 0.0, "high": 0.0, "passed": True}
            entry["why"] += ": it is the baseline itself, so there is nothing to compare"
            continue
        replay = session.get_one(Replay, entry["replay_id"])
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
        entry |= {
            "comparison_id": comparison.id, "verdict": comparison.verdict, "estimate": comparison.estimate,
            "low": comparison.low, "high": comparison.high, "n": comparison.n,
            "latency_p50_ms": _median_latency(session, replay), "passed": comparison.verdict in PASSING,
        }  # fmt: skip
    move(session, row, ("replaying",), "gated", ACTOR, evidence={"candidates": entries})
    return True


def _why_uncompared(session: Session, replay: Replay, evaluator: str) -> str | None:
    """Why the comparison that the gate needs will never come; None while it may."""
    jobs = select(Job).where(Job.kind == "comparison.make", Job.subject == f"replay:{replay.id}")
    job = session.exec(jobs.order_by(col(Job.id).desc())).first()
    if job is None or job.state in ("queued", "running"):
        return None
    return job.error if job.state == "failed" else f"it was not judged by {evaluator}"


def _median_latency(session: Session, replay: Replay) -> float | None:
    of_replay = select(Answer.latency_ms).where(Answer.replay_id == replay.id, col(Answer.latency_ms).is_not(None))
    values = sorted(ms for ms in session.exec(of_replay) if ms is not None)
    return values[len(values) // 2] if values else None


def _conclude(session: Session, row: Reoptimization) -> None:
    passed = [entry for entry in row.evidence["candidates"] if entry.get("passed")]
    if not passed:
        verdicts = ", ".join(f"{e['name']}: {e.get('verdict') or e.get('problem')}" for e in row.evidence["candidates"])
        move(
            session,
            row,
            ("gated",),
            "rejected",
            ACTOR,
            f"No candidate passed the gate ({verdicts}).",
            finished_at=now_us(),
        )
        return
    # Of those that are good enough the smallest, as that is what the variant was made for; then the fastest.
    best = min(passed, key=lambda e: (e.get("bytes_stored") or float("inf"), e.get("latency_p50_ms") or float("inf")))
    variant = session.get_one(Variant, best["variant_id"])
    reason = f"{best['name']} is {best['verdict']} ({best['estimate']:+.3f}, {best['low']:+.3f} to {best['high']:+.3f})"
    move(session, row, ("gated",), "promoted", ACTOR, reason, candidate_variant_id=variant.id, finished_at=now_us())
    promote(session, row.project_id, row.route, variant, row.decided_by or ACTOR, f"re-optimization {row.id}")
    if row.drift_event_id is not None:
        event = session.get_one(DriftEvent, row.drift_event_id)
        if event.state == "open":
            close_event(session, event, ACTOR)
