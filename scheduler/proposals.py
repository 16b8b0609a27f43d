"""Proposals: a plan of candidates for a variant that is to blame or shall be replaced, and the policy's yes."""

from typing import Any

from sqlmodel import Session, col, func, or_, select

from driftline.acts.reoptimizations import approve, expiry, move, standing_of
from driftline.acts.replays import DEFAULT_MARGIN, scorers_for
from driftline.acts.routes import approval_of
from driftline.acts.variants import find_route
from driftline.errors import Conflict
from driftline.moment import DAY, now_us
from driftline.store.engine import writing
from driftline.store.hashing import content_hash
from driftline.store.projects import audit
from driftline.store.tables import (
    AuditEntry,
    Comparison,
    DriftEvent,
    GoldenSet,
    GoldenVersion,
    Monitor,
    Reoptimization,
    Replay,
    Route,
    Variant,
)
from scheduler import shadow
from scheduler.plans import ELSEWHERE, Candidate, Ground, plan_for
from scheduler.recent import recent
from scheduler.work import Work

ACTOR = "driftline"
POLICY = "policy:auto"
AUTO_A_DAY = 3  # repairs of a route that the policy approves within a day; further ones wait for a person
MOST_CANDIDATES = 5
MOST_OTHERS = 2


def propose(
    session: Session, event: DriftEvent, route_name: str, because: str, judged: Comparison | None
) -> Reoptimization | None:
    """A proposal to repair the variant an event blames; None when one stands already or nothing can be proposed.

    Candidates will be gated by the evaluator and the margin that `judged` the variant itself, where it was.
    """
    route = find_route(session, event.project_id, route_name)
    if event.variant_id is None or standing_of(session, event.project_id, event.variant_id) is not None:
        return None
    now = now_us()
    signal = session.get_one(Monitor, event.monitor_id).signal
    row = Reoptimization(
        project_id=event.project_id, route=route.name, drift_event_id=event.id, subject_variant_id=event.variant_id,
        baseline_variant_id=route.baseline_variant_id, created_at=now, updated_at=now,
    )  # fmt: skip
    # Of a variant that is slower and worse nothing that only makes it faster could pass the gate.
    slow_alone = signal in ("latency", "ttft") and (judged is None or judged.verdict != "worse")
    wishes: dict[str, Any] = {"cause": "latency" if slow_alone else "variant", "because": because}
    if judged is not None:
        wishes |= {"evaluator": judged.evaluator, "margin": judged.margin}
    plan, _ = planned(session, row, wishes)
    if plan is None:
        return None
    row.plan, row.expires_at = plan, expiry()
    session.add(row)
    session.flush()
    audit(session, row.project_id, ACTOR, "reoptimization.proposed", f"reoptimization:{row.id}", {"event": event.id})
    approve_by_policy(session, row, route)
    return row


def plan(work: Work) -> dict[str, Any]:
    """Plans what args["reoptimization_id"] asks for."""
    with writing() as session:
        work.hold(session)
        row = session.get_one(Reoptimization, work.args["reoptimization_id"])
        if row.state != "requested":
            return {"state": row.state}
        made, problem = planned(session, row, row.plan)
        try:
            if made is None:
                move(session, row, ("requested",), "rejected", ACTOR, problem, finished_at=now_us())
            else:
                move(session, row, ("requested",), "proposed", ACTOR, plan=made, expires_at=expiry())
                approve_by_policy(session, row, find_route(session, row.project_id, row.route))
        except Conflict:
            session.rollback()  # cancelled in this very moment
        return {"state": row.state}


def planning_failed(session: Session, args: dict[str, Any], reason: str) -> None:
    """Ends a request whose planning failed for good."""
    row = session.get_one(Reoptimization, args["reoptimization_id"])
    if row.state == "requested":
        move(session, row, ("requested",), "failed", ACTOR, reason, finished_at=now_us())


def planned(session: Session, row: Reoptimization, wishes: dict[str, Any]) -> tuple[dict[str, Any] | None, str]:
    """The plan for a row with what was wished for, or None and why there is none."""
    subject = session.get_one(Variant, row.subject_variant_id)
    baseline = session.get(Variant, row.baseline_variant_id) if row.baseline_variant_id else None
    if baseline is None:
        return None, f"The route {row.route} has no baseline to prove candidates against."
    cause = wishes.get("cause", "variant")
    if baseline.id == subject.id and cause in ("variant", "third_party"):
        return None, f"{subject.name} is the baseline itself, so nothing is known to be better."
    golden_id = wishes.get("golden_version_id") or _golden(session, row.project_id, subject)
    if golden_id is None:
        return None, "The project has no golden set to prove candidates on. Import one with `driftline golden import`."
    learned = recent(session, row.project_id, row.route, baseline.id, golden_id)
    ground = Ground(
        subject.name, subject.spec, (baseline.name, baseline.spec), _others(session, subject, baseline),
        learned.traffic, learned.prompts, learned.shots, wishes.get("documents"),
    )  # fmt: skip
    candidates, left_out = plan_for(ground, cause)
    candidates = [_as_it_stands(session, row.project_id, one) for one in candidates]
    if not candidates:
        missing = ", ".join(f"{one['method']}: {one['because']}" for one in left_out)
        return None, f"No registered method could repair {subject.name} ({missing or 'none fits its recipe'})."
    most = int(wishes.get("max_candidates") or MOST_CANDIDATES)
    usual = {"evaluator": scorers_for(subject, baseline)[0], "margin": DEFAULT_MARGIN}
    return {
        **usual, **wishes, "candidates": candidates[:most], "left_out": left_out, "golden_version_id": golden_id,
        "aim": {"latency": "latency", "cost": "cost"}.get(cause, "size"),
    }, ""  # fmt: skip


def _as_it_stands(session: Session, project_id: int, candidate: Candidate) -> Candidate:
    """The candidate; under the name of the variant that is made the same way, where there is one already."""
    made_so = select(Variant).where(
        Variant.project_id == project_id, Variant.content_hash == content_hash(candidate["spec"])
    )
    known = session.exec(made_so.order_by(col(Variant.id))).first()
    if known is None or known.name == candidate["name"]:
        return candidate
    why = f"{candidate['why']}; the variant {known.name} is made in just this way, so it is used"
    return candidate | {"name": known.name, "why": why}


def approve_by_policy(session: Session, row: Reoptimization, route: Route) -> None:
    """Says yes where the policy does, unless it has said so too often today."""
    if approval_of(session, route) != "auto":
        return
    since = now_us() - DAY
    of_route = select(Reoptimization.id).where(
        Reoptimization.project_id == row.project_id, Reoptimization.route == row.route
    )
    subjects = [f"reoptimization:{key}" for key in session.exec(of_route.where(Reoptimization.created_at > since))]
    said = select(func.count(col(AuditEntry.id))).where(
        AuditEntry.action == "reoptimization.approved", AuditEntry.actor == POLICY, AuditEntry.at > since,
        col(AuditEntry.subject).in_(subjects),
    )  # fmt: skip
    if session.exec(said).one() < AUTO_A_DAY:
        approve(session, row, POLICY)


def decide_by_policy(session: Session) -> None:
    """Says yes to what waits for a person on routes whose policy needs none (any more)."""
    waiting = select(Reoptimization).where(Reoptimization.state == "proposed", _in_time())
    for row in session.exec(waiting.limit(100)).all():
        approve_by_policy(session, row, find_route(session, row.project_id, row.route))


def _in_time() -> Any:
    return or_(col(Reoptimization.expires_at).is_(None), col(Reoptimization.expires_at) > now_us())


def _golden(session: Session, project_id: int, variant: Variant) -> int | None:
    """The golden version the variant was last judged on, else the project's newest."""
    sets = select(GoldenSet.id).where(GoldenSet.project_id == project_id)
    versions = select(GoldenVersion.id).where(
        col(GoldenVersion.golden_set_id).in_(sets), GoldenVersion.source != shadow.SOURCE
    )
    judged = select(Replay.golden_version_id).where(
        Replay.variant_id == variant.id, Replay.state == "done", col(Replay.golden_version_id).in_(versions)
    )
    last = session.exec(judged.order_by(col(Replay.id).desc())).first()
    return last or session.exec(versions.order_by(col(GoldenVersion.id).desc())).first()


def _others(session: Session, subject: Variant, baseline: Variant) -> list[tuple[str, dict[str, Any]]]:
    """Other variants that could answer in the place of one whose model is elsewhere, newest first."""
    if subject.spec.get("runner") not in ELSEWHERE:
        return []
    of_project = select(Variant).where(
        Variant.project_id == subject.project_id, col(Variant.id).not_in([subject.id, baseline.id]),
        Variant.build_state == "built", col(Variant.state).in_(("candidate", "production")),
    )  # fmt: skip
    found = session.exec(of_project.order_by(col(Variant.id).desc()).limit(20)).all()
    able = [one for one in found if one.spec.get("runner") != "external"]
    return [(one.name, one.spec) for one in able[:MOST_OTHERS]]
