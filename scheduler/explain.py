"""Explaining a drift event: when it began, how large it is, who moved; its alerts go out, a repair is proposed."""

from collections.abc import Sequence
from statistics import fmean, median
from typing import Any

from sqlmodel import Session, col, select

from driftline.acts.replays import DEFAULT_SCORERS
from driftline.moment import now_us
from driftline.store.engine import reading, writing
from driftline.store.tables import Comparison, DriftEvent, Generation, Replay, Route, Variant
from evaluators.drift.cause import Cause, Evidence, who_moved
from evaluators.drift.effect import effect, slowdown
from evaluators.drift.prompts import prompts_moved
from scheduler import incidents, proposals
from scheduler.references import capped, frozen_lines, frozen_mean
from scheduler.window import Window, records_of, shares_of, window_of
from scheduler.work import Work

LEAST_FOR_TESTS = 10


def explain(work: Work) -> dict[str, Any]:
    """Explains args["event_id"]."""
    with reading() as session:
        event = session.get_one(DriftEvent, work.args["event_id"])
        window = window_of(session, event)
        size = size_of(window)
        before, after = shares_of(session, window.before), shares_of(session, window.after)
        main = next(iter(after))
        variant = session.exec(
            select(Variant).where(Variant.project_id == event.project_id, Variant.name == main)
        ).one()
        lengths = lengths_of(records_of(session, window.before), records_of(session, window.after))
        golden = golden_verdict(session, event.project_id, window.monitor.route, variant)
        slower = golden_slower(session, golden)
    latency = window.monitor.signal in ("latency", "ttft")
    cause = who_moved(
        Evidence(
            signal="latency" if latency else "quality" if window.monitor.signal == "quality" else "errors",
            variant_share_before=before.get(main, 0.0), variant_share_after=after.get(main, 0.0),
            golden=golden.verdict if golden else None,  # type: ignore[arg-type]
            golden_slower=slower or None,  # a replay in batches on another machine acquits nobody of being slow
            prompts_moved=lengths["prompts"].get("moved"), output_tokens_moved=lengths["answers"].get("moved"),
            latency_moved_beyond_lengths=True if latency else None,
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
        event.items_since, event.effect, event.cause, event.variant_id = (
            window.items_since,
            size,
            cause.name,
            variant.id,
        )
        event.evidence = event.evidence | {
            "reasons": list(cause.reasons), "not_looked_at": list(cause.not_looked_at), "variants_before": before,
            "variants_after": after, "prompts": lengths["prompts"], "answers": lengths["answers"],
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
        _tell(session, event, window, cause, variant, size, summary)
    return {"cause": cause.name, "reoptimization_id": proposal.id if proposal else None}


def _tell(
    session: Session,
    event: DriftEvent,
    window: Window,
    cause: Cause,
    variant: Variant,
    size: dict[str, Any],
    summary: str,
) -> None:
    monitor = window.monitor
    body = {
        "summary": summary, "cause": cause.name, "began_at": event.began_at, "effect": size, "variant": variant.name,
        "route": monitor.route, "items_since": event.items_since, "effect_text": effect_text(size),
    }  # fmt: skip
    title = f"{monitor.signal.capitalize()} of {monitor.route} drifted: {effect_text(size)}"
    incidents.enrich(session, event, title, body, {"variant": variant.name, "cause": cause.name})


def size_of(window: Window) -> dict[str, Any]:
    """How large the change is, with an interval, in the stream's own unit."""
    if window.monitor.detector == "exceedance":
        values = [row.value if isinstance(row.value, tuple) else (row.value, None, None) for row in window.after]
        found = slowdown(
            frozen_lines(window.reference), [ms for ms, _, _ in values], [tokens or 0 for _, tokens, _ in values],
            [tokens or 0 for _, _, tokens in values],
        )  # fmt: skip
        good, now = median(row.level for row in window.before), median(row.level for row in window.after)
        return {
            "unit": "ms", "reference": good, "current": now, "estimate": now - good, "ratio": found.ratio,
            "ratio_low": found.low, "ratio_high": found.high, "level": found.confidence, "n": found.n,
        }  # fmt: skip
    cap = window.reference.frozen.get("cap")
    change = effect(frozen_mean(window.reference), capped(window.after, cap))
    good, now = (fmean(row.level for row in rows) for rows in (window.before, window.after))
    scale = cap or 1.0  # the interval is of what the detector saw, in the unit of the scores
    return {
        "unit": "score" if window.monitor.signal == "quality" else "share", "reference": good, "current": now,
        "estimate": change.change * scale, "low": change.change_low * scale, "high": change.change_high * scale,
        "level": change.confidence, "n": change.n, "capped_at": cap,
    }  # fmt: skip


def effect_text(size: dict[str, Any]) -> str:
    """The change in a few words.

    >>> effect_text({"unit": "ms", "ratio": 1.6, "reference": 500.0, "current": 800.0})
    '1.60 times slower (median 500 to 800 ms)'
    >>> effect_text({"unit": "score", "reference": 0.74, "current": 0.5})
    'from 0.740 to 0.500'
    """
    if "ratio" in size:
        word = "slower" if size["ratio"] >= 1 else "the time"
        return f"{size['ratio']:.2f} times {word} (median {size['reference']:.0f} to {size['current']:.0f} ms)"
    return f"from {size['reference']:.3f} to {size['current']:.3f}"


def summary_of(window: Window, size: dict[str, Any]) -> str:
    """One sentence: what changed and how many records it took to see it."""
    monitor = window.monitor
    named = f"{monitor.signal.capitalize()}{f' ({monitor.source})' if monitor.source else ''}"
    return f"{named} of route {monitor.route} went {effect_text(size)}, seen within {window.items_since} records."


def lengths_of(before: Sequence[Generation], after: Sequence[Generation]) -> dict[str, dict[str, Any]]:
    """Whether prompts and answers changed their lengths; an empty entry where too few records say."""
    found: dict[str, dict[str, Any]] = {}
    for name, pick in (("prompts", _prompt_length), ("answers", _answer_length)):
        old, new = [pick(one) for one in before], [pick(one) for one in after]
        found[name] = {}
        if min(len(old), len(new)) >= LEAST_FOR_TESTS:
            moved = prompts_moved(old, new)
            found[name] = {
                "moved": moved.moved, "effect": moved.lengths.effect, "p_value": moved.lengths.p_value,
                "median_before": median(old), "median_after": median(new),
            }  # fmt: skip
    return found


def _prompt_length(row: Generation) -> float:
    return float(row.input_tokens if row.input_tokens is not None else row.input_chars)


def _answer_length(row: Generation) -> float:
    return float(row.output_tokens if row.output_tokens is not None else row.output_chars)


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
