"""What a rule would have done: run over stored history, before anybody saves it."""

from collections.abc import Iterable
from typing import Any

from sqlmodel import Session, col, select

from driftline.acts.matching import matches
from driftline.acts.rules import MEASURED
from driftline.moment import DAY, SECOND, iso, now_us
from driftline.store.engine import reading
from driftline.store.tables import Comparison, DriftEvent, Monitor, Project, Replay, Variant
from scheduler.measures import Asked
from scheduler.rules import Stream, measure_of
from scheduler.work import Work

SHOWN = 50


def preview(work: Work) -> dict[str, Any]:
    """How often args["rule"] would have fired in the last args["days"] days, when, and its false-alarm bound."""
    given, days = work.args["rule"], float(work.args["days"])
    asked = Asked(given["on"], given["matchers"], given["condition"], given["for_s"], tuple(given["group_by"]))
    until = now_us()
    since = until - int(days * DAY)
    with reading() as session:
        alpha = session.get_one(Project, work.project).false_alarms_per_year
        if asked.on in MEASURED:
            moments, bound, rests_on = _measured(session, work.project, asked, since, until, alpha)
        else:
            moments, bound, rests_on = _happened(session, work.project, asked, since, until, alpha)
    first = f" (the last at {iso(moments[-1])})" if moments else ""
    times = "once" if len(moments) == 1 else f"{len(moments)} times"
    return {
        "times": len(moments), "days": days, "moments": [iso(at) for at in moments[-SHOWN:]], "bound": bound,
        "rests_on": rests_on, "says": f"It would have fired {times} in {days:g} days{first}; {bound}. {rests_on}",
    }  # fmt: skip


def _measured(
    session: Session, project_id: int, asked: Asked, since: int, until: int, alpha: float
) -> tuple[list[int], str, str]:
    seen = measure_of(asked.on).past(session, project_id, asked, since, until)
    moments: list[int] = []
    if asked.on in ("no_data", "cost", "tokens"):
        spells: dict[str, list[tuple[int, bool]]] = {}
        for fact in seen.facts:
            spells.setdefault(fact.key, []).append((fact.at, fact.holds))
        for spell in spells.values():
            moments += _lasting(spell, asked.for_s, until)
        return sorted(moments), "a fact has no false alarms", f"Looked at {len(seen.facts)} moments of stored traffic."
    streams: dict[str, tuple[Stream, list[tuple[int, bool]]]] = {}
    for block in seen.evidence:
        stream, spell = streams.setdefault(block.key, (Stream.fresh(asked.on, asked.condition, alpha), []))
        stream.take(block)
        spell.append((block.at, stream.breached_since is not None))
    for _, spell in streams.values():
        moments += _lasting(spell, asked.for_s, until)
    calls, each = sum(block.n for block in seen.evidence), " for each stream" if len(streams) > 1 else ""
    bound = f"false-alarm bound {alpha:.2%} a year{each}"
    return sorted(moments), bound, f"Looked at {calls} observations in {len(seen.evidence)} blocks."


def _lasting(spell: Iterable[tuple[int, bool]], for_s: float, until: int) -> list[int]:
    """When a rule that waits so long would have fired: moments at which it had held for so long."""
    fired: list[int] = []
    began: int | None = None
    told = False
    for at, holds in [*spell, (until, False)]:
        if began is not None and not told and at - began >= for_s * SECOND:
            fired.append(began + int(for_s * SECOND))
            told = True
        if holds and began is None:
            began, told = at, False
            if for_s <= 0:
                fired.append(at)
                told = True
        elif not holds:
            began = None
    return fired


def _happened(
    session: Session, project_id: int, asked: Asked, since: int, until: int, alpha: float
) -> tuple[list[int], str, str]:
    if asked.on == "comparison":
        return _comparisons(session, project_id, asked, since)
    if asked.on != "drift":
        return [], "Driftline's own trouble is a fact", "Nothing is stored of it."
    names = dict(session.exec(select(Variant.id, Variant.name).where(Variant.project_id == project_id)).all())
    events = session.exec(
        select(DriftEvent, Monitor)
        .join(Monitor, col(Monitor.id) == DriftEvent.monitor_id)
        .where(DriftEvent.project_id == project_id, col(DriftEvent.detected_at) >= since)
        .order_by(col(DriftEvent.detected_at))
    ).all()
    moments: list[int] = []
    incidents: dict[str, int] = {}
    for event, monitor in events:
        labels = {"on": "drift", "monitor": monitor.name, "signal": monitor.signal, "route": monitor.route,
                  "variant": names.get(event.variant_id or 0, ""), "cause": event.cause or ""}  # fmt: skip
        ended = event.closed_at if event.closed_at is not None else until
        if not matches(labels, asked.matchers) or ended - event.detected_at < asked.for_s * SECOND:
            continue
        key = "|".join(labels.get(name, "") for name in asked.group_by) if asked.group_by else f"event:{event.id}"
        if event.detected_at >= incidents.get(key, 0):
            moments.append(event.detected_at + int(asked.for_s * SECOND))
        incidents[key] = max(incidents.get(key, 0), ended)
    bound = f"false-alarm bound {alpha:.2%} a year over all monitors together"
    return moments, bound, f"Looked at {len(events)} drift events."


def _comparisons(session: Session, project_id: int, asked: Asked, since: int) -> tuple[list[int], str, str]:
    rows = session.exec(
        select(Comparison)
        .where(Comparison.project_id == project_id, col(Comparison.created_at) >= since)
        .order_by(col(Comparison.id))
    ).all()
    moments, levels = [], {row.level for row in rows}
    for row in rows:
        variant = session.get_one(Variant, session.get_one(Replay, row.candidate_replay_id).variant_id)
        labels = {"on": "comparison", "variant": variant.name, "signal": row.evaluator}
        if row.verdict == "worse" and matches(labels, asked.matchers):
            moments.append(row.created_at)
    error = (1 - min(levels, default=0.95)) / 2
    return moments, f"false-alarm bound {error:.1%} for each comparison", f"Looked at {len(rows)} comparisons."
