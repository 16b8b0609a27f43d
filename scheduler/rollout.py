"""From a passed gate to production: shadow, canary, full, as the route's policy has it; each step can be taken back."""

from typing import Any

from sqlmodel import Session

from driftline.acts.monitors import close_event
from driftline.acts.reoptimizations import end, move
from driftline.acts.routes import Rollout, rollout_of, start_canary
from driftline.acts.variants import find_route, promote
from driftline.moment import DAY, HOUR, now_us
from driftline.store.tables import DriftEvent, Reoptimization, Variant
from scheduler import canary, shadow
from scheduler.proposals import ACTOR

LOOK_S = 2.0  # between two looks at a canary


def begin(session: Session, row: Reoptimization, like: dict[str, Any]) -> None:
    """The first step of the roll-out that the policy asks for. Going back to the baseline needs no trial."""
    route = find_route(session, row.project_id, row.route)
    way = rollout_of(route)
    candidate = session.get_one(Variant, row.candidate_variant_id)
    back = row.candidate_variant_id == row.baseline_variant_id
    if way.shadow_items and not back:
        subject = session.get_one(Variant, row.subject_variant_id)
        known = subject.spec.get("runner", "external") != "external"
        beside = subject if known else session.get_one(Variant, row.baseline_variant_id)
        state = shadow.begin(session, row, candidate, beside, way.shadow_items, ACTOR, like)
        if state is not None:
            candidate.state = "shadow"
            session.add(candidate)
            move(session, row, ("gated",), "shadow", ACTOR, praise(row), evidence=row.evidence | {"shadow": state})
            return
    _after_shadow(session, row, way, "gated", praise(row), back)


def watch_shadow(session: Session, row: Reoptimization) -> bool:
    """One look at the shadow; False while there is nothing to do but wait."""
    found = shadow.judged(session, row, row.evidence["shadow"])
    if found is None:
        return False
    harmless, words = found
    if not harmless:
        end(session, row, ("shadow",), "rejected", ACTOR, f"In the shadow the candidate did harm. {words}")
        return True
    way = rollout_of(find_route(session, row.project_id, row.route))
    _after_shadow(session, row, way, "shadow", words, back=False)
    return True


def _after_shadow(session: Session, row: Reoptimization, way: Rollout, stood: str, reason: str, back: bool) -> None:
    route = find_route(session, row.project_id, row.route, lock=True)
    candidate = session.get_one(Variant, row.candidate_variant_id)
    production = route.production_variant_id
    if not way.canary_share or back or production is None or production == candidate.id:
        _promote(session, row, (stood,), reason)
        return
    if route.canary_variant_id not in (None, candidate.id):
        end(session, row, (stood,), "rejected", ACTOR, f"The route {route.name} tries another canary already.")
        return
    state = canary.begin(session, row, candidate.id, production) | {
        "items": way.canary_items, "not_before": now_us() + int(way.canary_hours * HOUR),
        "not_after": now_us() + int(way.canary_days * DAY), "share": way.canary_share,
    }  # fmt: skip
    move(session, row, (stood,), "canary", ACTOR, reason, evidence=row.evidence | {"canary": state},
         told={"share": way.canary_share})  # fmt: skip
    start_canary(session, route, candidate, way.canary_share, row.decided_by or ACTOR, f"re-optimization {row.id}")


def watch_canary(session: Session, row: Reoptimization) -> bool:
    """One look at the canary; False while there is nothing to do but wait for its traffic."""
    route = find_route(session, row.project_id, row.route, lock=True)
    state = row.evidence["canary"]
    if route.canary_variant_id != state["canary_id"] or route.production_variant_id != state["production_id"]:
        end(session, row, ("canary",), "cancelled", ACTOR, f"Somebody changed the route {route.name} meanwhile.")
        return True
    after, more = canary.read(session, row, state)
    if after != state:
        row.evidence = row.evidence | {"canary": after}
        session.add(row)
        session.flush()
    problem, n, now = canary.worse(after), canary.answered(after), now_us()
    told = {"tests": canary.summary(after)}
    if problem is not None:
        end(session, row, ("canary",), "rolled_back", ACTOR, problem, told=told)
        return True
    if n >= state["items"] and now >= state["not_before"] and not more:
        reason = f"{n} answers of the canary without a sign of harm."
        _promote(session, row, ("canary",), reason, told)
        return True
    if now > state["not_after"]:
        reason = f"The canary got {n} of {state['items']} answers in time. Does the app ask which variant to use?"
        end(session, row, ("canary",), "rolled_back", ACTOR, reason, told=told)
        return True
    return more


def _promote(
    session: Session, row: Reoptimization, stood: tuple[str, ...], reason: str, told: dict[str, Any] | None = None
) -> None:
    variant = session.get_one(Variant, row.candidate_variant_id)
    move(session, row, stood, "promoted", ACTOR, reason, finished_at=now_us(), told=told)
    promote(session, row.project_id, row.route, variant, row.decided_by or ACTOR, f"re-optimization {row.id}")
    if row.drift_event_id is not None:
        event = session.get_one(DriftEvent, row.drift_event_id)
        if event.state == "open":
            close_event(session, event, ACTOR)


def praise(row: Reoptimization) -> str:
    """Why the chosen candidate may serve, in one line."""
    best = next(one for one in row.evidence["candidates"] if one["variant_id"] == row.candidate_variant_id)
    return f"{best['name']} is {best['verdict']} ({best['estimate']:+.3f}, {best['low']:+.3f} to {best['high']:+.3f})"
