"""Explaining a drift event: when it began, how large it is, who moved; its alerts go out, a repair is proposed.

Whether it is still the same model is read from what was measured since. Where nothing was, and the model may have been
exchanged, it is asked by a job of its own: alerts do not wait for that, and are told again if it changes the verdict.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from sqlmodel import Session, col, select

from driftline.acts.replays import DEFAULT_SCORERS
from driftline.acts.telling import tell
from driftline.errors import DriftlineError
from driftline.moment import now_us
from driftline.queue import request
from driftline.store.engine import reading, writing
from driftline.store.tables import (
    Alert,
    Comparison,
    DriftEvent,
    Generation,
    Monitor,
    Notification,
    Replay,
    Route,
    Variant,
)
from evaluators.drift.cause import Cause, Evidence, Signal, who_moved
from scheduler import incidents, proposals, same_model
from scheduler.endpoints import Endpoint
from scheduler.sizes import effect_text, size_of
from scheduler.surroundings import cost_of, lengths_of, main_variant, others_of, slices_of, texts_of
from scheduler.window import Window, records_of, shares_of, window_of
from scheduler.work import Later, Work

KINDS: dict[str, Signal] = {
    "latency": "latency", "ttft": "latency", "token_time": "latency", "cost": "cost", "errors": "errors",
    "quality": "quality", "invalid_json": "quality", "refusals": "quality", "empty": "quality", "judge": "quality",
    "prompt_length": "prompts", "prompt_language": "prompts", "prompt_clusters": "prompts",
    "prompt_embedding": "prompts", "coverage": "prompts",
}  # fmt: skip
PROBES = ("probes", "border", "answers")


def explain(work: Work) -> dict[str, Any]:
    """Explains args["event_id"]."""
    with reading() as session:
        event = session.get_one(DriftEvent, work.args["event_id"])
        window = window_of(session, event)
        size = size_of(window)
        before, after = shares_of(session, window.before), shares_of(session, window.after)
        variant = main_variant(session, event, after)
        records = [records_of(session, rows) for rows in (window.before, window.after)]
        lengths, texts = lengths_of(*records), texts_of(*records)
        sliced = slices_of(window, [*records[0], *records[1]])
        cost = cost_of(*records) if window.monitor.signal == "cost" else None
        golden = golden_verdict(session, event.project_id, window.monitor.route, variant) if variant else None
        slower = golden_slower(session, golden)
        others = others_of(session, event, window.monitor, window.change.began_at)
        check = _looked(session, event, window, variant, (before, after), records)
    signal, kind = window.monitor.signal, KINDS.get(window.monitor.signal, "other")
    main = variant.name if variant else ""
    prompts = lengths["prompts"].get("moved")
    if texts["prompts"] and prompts is not True:
        prompts = bool(texts["prompts"]["moved"]) or prompts
    known = Evidence(
        signal=kind,
        variant_share_before=before.get(main, 0.0) if after else None,
        variant_share_after=after.get(main, 0.0) if after else None,
        golden=golden.verdict if golden else None,  # type: ignore[arg-type]
        probes_moved=True if signal in PROBES else others.get("probes"),
        golden_slower=slower or None,  # a replay in batches on another machine acquits nobody of being slow
        prompts_moved=True if kind == "prompts" else prompts,
        output_tokens_moved=lengths["answers"].get("moved"),
        latency_moved_beyond_lengths=beyond_lengths(kind, cost),
        baseline_moved=others.get("baseline"),
        anchors_moved=True if signal == "judge" else others.get("anchors"),
        captured_share_moved=True if signal == "captured" else others.get("captured"),
    )
    cause = who_moved(with_check(known, check))
    with writing() as session:
        work.hold(session)
        event = session.get_one(DriftEvent, event.id, with_for_update=True)
        event.began_at, event.began_low, event.began_high = (
            window.change.began_at,
            window.change.low,
            window.change.high,
        )
        event.items_since, event.effect, event.cause = window.items_since, size, cause.name
        event.variant_id = variant.id if variant else None
        event.evidence = event.evidence | {
            "reasons": list(cause.reasons), "not_looked_at": list(cause.not_looked_at), "variants_before": before,
            "variants_after": after, "prompts": lengths["prompts"], "answers": lengths["answers"],
            "texts": texts, "others": others, "cost": cost, **sliced,
            "change_confirmed": window.change.confirmed, "change_p_value": window.change.p_value,
            "n_before": len(window.before), "n_after": len(window.after),
            "comparison_id": golden.id if golden else None, "known": asdict(known), "same_model": check,
            "summary": summary_of(window, size),
        }  # fmt: skip
        event.explained_at = now_us()
        session.add(event)
        if check is not None and check["state"] == "asked":
            request(
                session, "event.same_model", "replay", {"event_id": event.id}, project_id=event.project_id,
                subject=f"drift_event:{event.id}", dedup_key=f"same_model:{event.id}",
            )  # fmt: skip
        summary = f"{event.evidence['summary']} {' '.join(cause.reasons)}"
        proposal = None
        if cause.name == "variant":
            proposal = proposals.propose(session, event, window.monitor.route, summary, golden)
        _tell(session, event, window, cause, main, size, summary)
    return {"cause": cause.name, "reoptimization_id": proposal.id if proposal else None}


def check_model(work: Work) -> Later | dict[str, Any]:
    """Asks the model behind args["event_id"] whether it is still the same, and judges again who moved."""
    with reading() as session:
        event = session.get_one(DriftEvent, work.args["event_id"])
        monitor = session.get_one(Monitor, event.monitor_id)
        kept = event.evidence.get("same_model") or {}
        if event.variant_id is None or kept.get("state") != "asked":
            return {"state": kept.get("state")}
        variant = session.get_one(Variant, event.variant_id)
        low, high = event.began_low or event.detected_at, event.began_high or event.detected_at
        known = same_model.stored(session, monitor, variant, low, high, ((), ()))
        then = same_model.replay_before(session, variant, low)
        watching = session.exec(
            select(Monitor).where(
                Monitor.project_id == event.project_id, Monitor.route == monitor.route, Monitor.signal == "border"
            )
        ).all()
    endpoint = Endpoint.of(variant.spec)
    if endpoint is not None and not endpoint.enter(work):
        return Later(1.0, f"waiting for one of {endpoint.slots} places at {endpoint.name}")
    problem = None
    try:
        known = same_model.ask_again(variant, then, watching).over(known)
    except DriftlineError as error:
        problem = error.message
    finally:
        if endpoint is not None:
            endpoint.leave(work)
    if problem is None and then is None and not known.words:
        problem = f"No replay of {variant.name} had ended before the change, so there is nothing to compare with."
    check = known.to_json("measured", problem=problem)
    with writing() as session:
        work.hold(session)
        _judge_again(session, session.get_one(DriftEvent, event.id, with_for_update=True), monitor, check)
    return {"verdict": check["verdict"], "by": check["by"]}


def check_failed(session: Session, args: dict[str, Any], reason: str) -> None:
    """Says on the event that its model could not be asked."""
    event = session.get_one(DriftEvent, args["event_id"])
    kept = event.evidence.get("same_model") or {}
    event.evidence = event.evidence | {"same_model": kept | {"state": "measured", "problem": reason}}
    session.add(event)


def _judge_again(session: Session, event: DriftEvent, monitor: Monitor, check: dict[str, Any]) -> None:
    cause = who_moved(with_check(Evidence(**event.evidence["known"]), check))
    was, event.cause = event.cause, cause.name
    event.evidence = event.evidence | {
        "same_model": check, "reasons": list(cause.reasons), "not_looked_at": list(cause.not_looked_at),
    }  # fmt: skip
    session.add(event)
    if cause.name == was:
        return
    variant = session.get_one(Variant, event.variant_id) if event.variant_id else None
    summary = f"{event.evidence['summary']} {' '.join(cause.reasons)}"
    if cause.name == "variant" and variant is not None:
        golden = golden_verdict(session, event.project_id, monitor.route, variant)
        proposals.propose(session, event, monitor.route, summary, golden)
    body = {"summary": summary, "cause": cause.name}
    incidents.enrich(session, event, _title(monitor, event.effect), body, {"cause": cause.name})
    for alert in session.exec(select(Alert).where(Alert.drift_event_id == event.id, Alert.state != "resolved")):
        told = select(Notification.id).where(Notification.alert_id == alert.id, Notification.state == "sent")
        if session.exec(told.limit(1)).first() is not None:
            tell(session, alert, "explained")


def with_check(known: Evidence, check: dict[str, Any] | None) -> Evidence:
    """The evidence with what the same-model check found; what a monitor alarmed of stands."""
    moved = same_model.moved_of(check)
    if moved is None or check is None:
        return known
    return replace(known, probes_moved=bool(known.probes_moved) or moved, model=str(check["because"]))


def _looked(
    session: Session, event: DriftEvent, window: Window, variant: Variant | None,
    shares: tuple[dict[str, float], dict[str, float]], records: Sequence[Sequence[Generation]],
) -> dict[str, Any] | None:  # fmt: skip
    """The newest same-model check as far as it is stored; its state says whether the model is to be asked as well."""
    if variant is None:
        return None
    change = window.change
    found = same_model.stored(session, window.monitor, variant, change.low, change.high, records)
    kept = event.evidence.get("same_model")
    if kept is not None and kept["state"] == "measured":
        return dict(kept)  # explained once more: what was asked stays the newest
    check = found.to_json("read", variant=variant.name)
    askable = same_model.is_askable(variant, *shares) and KINDS.get(window.monitor.signal) != "prompts"
    if askable and same_model.moved_of(check) is None:
        check["state"] = "asked"
    return check if check["looked"] or check["state"] == "asked" else None


def beyond_lengths(kind: Signal, cost: dict[str, Any] | None) -> bool | None:
    """Whether the signal moved by more than the lengths of prompts and answers explain; None where that is not known.

    Latency monitors have taken the lengths out already; of a cost it is the price or the mix that moved, not tokens.
    """
    if kind == "latency":
        return True
    return None if cost is None else cost["largest"] != "tokens"


def _tell(
    session: Session, event: DriftEvent, window: Window, cause: Cause, variant: str, size: dict[str, Any], summary: str
) -> None:
    monitor = window.monitor
    body = {
        "summary": summary, "cause": cause.name, "began_at": event.began_at, "effect": size, "variant": variant,
        "route": monitor.route, "items_since": event.items_since, "effect_text": effect_text(size),
    }  # fmt: skip
    title = _title(monitor, size)
    labels = {"cause": cause.name} | ({"variant": variant} if variant else {})
    incidents.enrich(session, event, title, body, labels)


def _title(monitor: Monitor, size: dict[str, Any]) -> str:
    return f"{named(monitor.signal)} of {monitor.route} drifted: {effect_text(size)}"


def named(signal: str) -> str:
    """A signal as a sentence begins with it.

    >>> named("prompt_length")
    'Prompt length'
    """
    return signal.replace("_", " ").capitalize()


def summary_of(window: Window, size: dict[str, Any]) -> str:
    """One sentence: what changed and how many records it took to see it."""
    monitor = window.monitor
    what = f"{named(monitor.signal)}{f' ({monitor.source})' if monitor.source else ''}"
    return f"{what} of route {monitor.route} went {effect_text(size)}, seen within {window.items_since} records."


def golden_verdict(session: Session, project_id: int, route_name: str, variant: Variant) -> Comparison | None:
    """The newest comparison of the variant with the route's baseline, by the first default scorer that has one."""
    route = session.exec(select(Route).where(Route.project_id == project_id, Route.name == route_name)).first()
    if route is None or route.baseline_variant_id is None:
        return None
    ours = select(Replay.id).where(Replay.variant_id == variant.id)
    theirs = select(Replay.id).where(Replay.variant_id == route.baseline_variant_id)
    newest = (
        select(Comparison)
        .where(col(Comparison.candidate_replay_id).in_(ours), col(Comparison.baseline_replay_id).in_(theirs))
        .order_by(col(Comparison.id).desc())
    )
    judged = {row.evaluator: row for row in reversed(session.exec(newest.limit(20)).all())}
    return next((judged[name] for name in DEFAULT_SCORERS if name in judged), next(iter(judged.values()), None))


def golden_slower(session: Session, comparison: Comparison | None) -> bool | None:
    """Whether the golden prompts take the variant longer than the baseline, by more than a tenth at the median."""
    latency = comparison.evidence.get("latency", {}) if comparison is not None else {}
    if not {"candidate_p50", "baseline_p50"} <= set(latency):
        return None
    return bool(latency["candidate_p50"] > 1.1 * latency["baseline_p50"])
