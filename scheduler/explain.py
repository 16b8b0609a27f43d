"""Explaining a drift event: when it began, how large it is, who moved; its alerts go out, a repair is proposed."""

from typing import Any

from sqlmodel import Session, col, select

from driftline.acts.replays import DEFAULT_SCORERS
from driftline.moment import now_us
from driftline.store.engine import reading, writing
from driftline.store.tables import Comparison, DriftEvent, Replay, Route, Variant
from evaluators.drift.cause import Cause, Evidence, Signal, who_moved
from scheduler import incidents, proposals
from scheduler.sizes import effect_text, size_of
from scheduler.surroundings import cost_of, lengths_of, main_variant, others_of, slices_of, texts_of
from scheduler.window import Window, records_of, shares_of, window_of
from scheduler.work import Work

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
    signal, kind = window.monitor.signal, KINDS.get(window.monitor.signal, "other")
    main = variant.name if variant else ""
    prompts = lengths["prompts"].get("moved")
    if texts["prompts"] and prompts is not True:
        prompts = bool(texts["prompts"]["moved"]) or prompts
    cause = who_moved(
        Evidence(
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
    )  # fmt: skip
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
            "comparison_id": golden.id if golden else None,
        }  # fmt: skip
        event.explained_at = now_us()
        session.add(event)
        summary = f"{summary_of(window, size)} {' '.join(cause.reasons)}"
        proposal = None
        if cause.name == "variant":
            proposal = proposals.propose(session, event, window.monitor.route, summary, golden)
        _tell(session, event, window, cause, main, size, summary)
    return {"cause": cause.name, "reoptimization_id": proposal.id if proposal else None}


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
    title = f"{named(monitor.signal)} of {monitor.route} drifted: {effect_text(size)}"
    labels = {"cause": cause.name} | ({"variant": variant} if variant else {})
    incidents.enrich(session, event, title, body, labels)


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
