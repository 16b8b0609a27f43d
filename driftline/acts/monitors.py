"""Adding and changing monitors, closing their events, choosing a new reference: each an explicit, logged act."""

import math
from collections.abc import Mapping
from typing import Any

from sqlmodel import Session, col, select

from driftline.acts.alerts import end_part
from driftline.acts.signals import SIGNALS, Signal
from driftline.errors import BadInput, Conflict, NotFound
from driftline.moment import now_us
from driftline.settings import settings
from driftline.store.claims import claim
from driftline.store.projects import audit
from driftline.store.tables import DriftEvent, Monitor, Reference

REFERENCE_ITEMS = 2000
REFERENCE_S = 24 * 3600.0
EMBEDDED_ITEMS = 400  # of a reference whose prompts are embedded
RUN_ITEMS = 30  # that a job measures in one run
SEASONS = ("none", "hour", "weekday", "hour_of_week")
LEAST = {
    "margin": 0, "block_s": 0.001, "min_block_items": 1, "reference_items": 1, "reference_s": 0, "every_s": 0.001,
    "items": 1,
}  # fmt: skip


def defaults(signal: str) -> dict[str, Any]:
    """The parameters that a new monitor of a signal has where it is not told otherwise.

    Raises:
        BadInput: There is no such signal.
    """
    if signal not in SIGNALS:
        raise BadInput(f"There is no signal {signal!r}. Known: {', '.join(SIGNALS)}.")
    kind = SIGNALS[signal]
    chosen = {
        **kind.params(),
        "block_s": settings().block_s,
        "min_block_items": 1,
        "reference_items": EMBEDDED_ITEMS if kind.embeds else REFERENCE_ITEMS,
        "reference_s": REFERENCE_S,
        "tags": {},
        "season": "none",
        "split_by": "",
    }
    if kind.reads == "runs":
        per_run = 1 if signal == "captured" else RUN_ITEMS
        runs = {"items": per_run, "reference_items": 1440 if signal == "captured" else 3 * per_run}
        chosen |= runs if signal == "captured" else runs | {"reference_s": 0.0}
    if kind.detector == "paired-texts":
        chosen["reference_items"] = 1  # the pairs are their own reference
    return chosen


def draft(
    project_id: int, name: str, signal: str, *, route: str = "default", source: str = "", weight: float = 1.0,
    params: Mapping[str, Any] | None = None,
) -> Monitor:  # fmt: skip
    """A monitor as it would be, checked and not stored: what `add` stores and a backtest tries.

    Raises:
        BadInput: An unknown signal or parameter, one that makes no sense, a source that is missing.
    """
    chosen = defaults(signal)
    kind = SIGNALS[signal]
    source = source or kind.source
    if kind.needs == "evaluator" and not source:
        raise BadInput(
            f"A {signal} monitor reads an evaluator's scores: name it as the source, e.g. "
            f"{'judge' if signal == 'judge' else 'baseline_likelihood'}."
        )
    if kind.needs == "golden" and not source:
        raise BadInput(f"A {signal} monitor needs a golden set: name it as the source.")
    if not (weight > 0 and math.isfinite(weight)):
        raise BadInput(f"A monitor's weight is its share of the false-alarm budget and above 0; got {weight}.")
    unknown = set(params or {}) - set(chosen)
    if unknown:
        raise BadInput(f"A monitor has no parameter {sorted(unknown)[0]!r}. Known: {', '.join(sorted(chosen))}.")
    chosen |= params or {}
    _check(kind, signal, chosen)
    detector = chosen.pop("detector")
    if detector == "esr" and (chosen["season"] != "none" or chosen["split_by"]):
        detector = "strata"
    return Monitor(
        project_id=project_id, name=name, signal=signal, source=source, route=route, weight=weight, detector=detector,
        params=chosen, created_at=now_us(),
    )  # fmt: skip


def add(
    session: Session,
    project_id: int,
    name: str,
    signal: str,
    actor: str,
    *,
    route: str = "default",
    source: str = "",
    weight: float = 1.0,
    params: Mapping[str, Any] | None = None,
) -> Monitor:
    """A monitor that first collects its reference, then judges block after block.

    `params` may set `margin`, `block_s`, `min_block_items`, `reference_items`, `reference_s` (the reference is frozen
    when both are reached), `tags` (only records that carry them), `season` (hour, weekday, hour_of_week: each judged
    against its own) and `split_by` (a tag whose values are judged each against its own). `source` names the evaluator
    or golden set that the signal reads.

    Raises:
        BadInput: An unknown signal or parameter, a weight not above 0, a missing source.
        Conflict: The name is taken.
    """
    monitor = draft(project_id, name, signal, route=route, source=source, weight=weight, params=params)
    taken = select(Monitor).where(Monitor.project_id == project_id, Monitor.name == name)
    if session.exec(taken).first() is not None:
        raise Conflict(f"There is a monitor named {name} already.")
    session.add(monitor)
    session.flush()
    told: dict[str, object] = {"name": name, "params": monitor.params}
    audit(session, project_id, actor, "monitor.added", f"monitor:{monitor.id}", told)
    return monitor


def change(
    session: Session, monitor: Monitor, actor: str, *, weight: float | None = None,
    params: Mapping[str, Any] | None = None,
) -> bool:  # fmt: skip
    """Changes what a monitor is told; returns whether anything differs from before.

    Another weight leaves the reference and the evidence alone. Anything else changes what the reference means, so a new
    one is collected. Logged with what it was before.

    Raises:
        BadInput: As for `add`.
    """
    wanted = draft(
        monitor.project_id, monitor.name, monitor.signal, route=monitor.route, source=monitor.source,
        weight=monitor.weight if weight is None else weight, params={**_known(monitor), **(params or {})},
    )  # fmt: skip
    before = {"weight": monitor.weight, "params": monitor.params}
    anew = wanted.params != {**defaults_of(monitor), **monitor.params} or wanted.detector != monitor.detector
    if not anew and wanted.weight == monitor.weight:
        return False
    monitor.weight, monitor.params, monitor.detector = wanted.weight, wanted.params, wanted.detector
    session.add(monitor)
    told: dict[str, object] = {"before": before, "weight": monitor.weight, "params": monitor.params}
    audit(session, monitor.project_id, actor, "monitor.changed", f"monitor:{monitor.id}", told)
    if anew and monitor.status != "paused":
        rebaseline(session, monitor, actor)
    elif anew:
        _lay_aside(session, monitor)
        monitor.state = None
    return True


def defaults_of(monitor: Monitor) -> dict[str, Any]:
    """The defaults of a monitor's signal, without the detector: what its own parameters stand on."""
    return {key: value for key, value in defaults(monitor.signal).items() if key != "detector"}


def _known(monitor: Monitor) -> dict[str, Any]:
    names = set(defaults(monitor.signal))
    return {key: value for key, value in monitor.params.items() if key in names}


def _check(kind: Signal, signal: str, params: Mapping[str, Any]) -> None:
    if params["direction"] not in ("rise", "fall"):
        raise BadInput(f"A monitor's direction is rise or fall; got {params['direction']!r}.")
    for name in LEAST.keys() & params.keys():
        value, least = params[name], LEAST[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < 1e9:
            raise BadInput(f"A monitor's {name} is a number, at least {least}; got {value!r}.")
    tags = params["tags"]
    if not isinstance(tags, dict) or not all(isinstance(x, str) and x for x in (*tags, *tags.values())):
        raise BadInput(f"A monitor's tags are texts by name, such as {{'kind': 'prime'}}; got {tags!r}.")
    if params["season"] not in SEASONS:
        raise BadInput(f"A monitor's season is one of {', '.join(SEASONS)}; got {params['season']!r}.")
    if not isinstance(params["split_by"], str):
        raise BadInput(f"A monitor's split_by is the name of a tag; got {params['split_by']!r}.")
    seasonal, split = params["season"] != "none", bool(params["split_by"])
    if kind.reads == "runs" and (tags or seasonal or split):
        raise BadInput(f"The signal {signal} reads no traffic, so it has neither tags nor season nor split_by.")
    if seasonal and split:
        raise BadInput("A monitor has a season or a split_by, not both: add one monitor for each.")
    if seasonal and kind.detector not in ("esr", "exceedance"):
        raise BadInput(f"The signal {signal} has no season: watch each part of the day by tags instead.")
    if split and kind.detector != "esr":
        raise BadInput(f"The signal {signal} cannot be split by a tag: add a monitor per value, with tags.")


def find_monitor(session: Session, project_id: int, name: str) -> Monitor:
    """The monitor of that name.

    Raises:
        NotFound: Lists the monitors there are.
    """
    monitors = {row.name: row for row in session.exec(select(Monitor).where(Monitor.project_id == project_id))}
    if name not in monitors:
        raise NotFound("monitor", name, sorted(monitors))
    return monitors[name]


def close_event(session: Session, event: DriftEvent, actor: str, certificate: dict[str, Any] | None = None) -> None:
    """Closes an event and resolves its alerts; the monitor watches on against the same reference.

    Raises:
        Conflict: It is closed already.
    """
    if not claim(
        session, DriftEvent, DriftEvent.id == event.id, DriftEvent.state == "open", state="closed", closed_at=now_us()
    ):
        raise Conflict(f"Drift event {event.id} is closed already.")
    session.refresh(event)
    claim(session, Monitor, Monitor.id == event.monitor_id, Monitor.status == "alarmed", status="watching", state=None)
    claim(session, Monitor, Monitor.id == event.monitor_id, Monitor.status == "paused", state=None)
    end_part(session, event.project_id, f"drift_event:{event.id}", actor, certificate)
    audit(session, event.project_id, actor, "event.closed", f"drift_event:{event.id}", certificate or {})


def rebaseline(session: Session, monitor: Monitor, actor: str) -> None:
    """Lays the reference aside; the monitor collects a new one from the traffic that comes from now on."""
    _lay_aside(session, monitor)
    monitor.status, monitor.state, monitor.pending = "collecting", None, {}
    session.add(monitor)
    audit(
        session, monitor.project_id, actor, "monitor.rebaselined", f"monitor:{monitor.id}", {"cursor": monitor.cursor}
    )


def _lay_aside(session: Session, monitor: Monitor) -> None:
    now = now_us()
    for reference in session.exec(
        select(Reference).where(Reference.monitor_id == monitor.id, col(Reference.replaced_at).is_(None))
    ):
        reference.replaced_at = now
        session.add(reference)


def pause(session: Session, monitor: Monitor, actor: str) -> None:
    """Stops judging; what arrives meanwhile is passed over when it resumes."""
    monitor.status = "paused"
    session.add(monitor)
    audit(session, monitor.project_id, actor, "monitor.paused", f"monitor:{monitor.id}", {})


def resume(session: Session, monitor: Monitor, actor: str) -> None:
    """Judges again from the next record on, with the detector's state from before the pause.

    A drift that was open stays open: the monitor is alarmed again and raises nothing anew.

    Raises:
        Conflict: The monitor is not paused.
    """
    if monitor.status != "paused":
        raise Conflict(f"The monitor {monitor.name} is {monitor.status}, not paused.")
    standing = select(Reference.id).where(Reference.monitor_id == monitor.id, col(Reference.replaced_at).is_(None))
    drifted = select(DriftEvent.id).where(DriftEvent.monitor_id == monitor.id, DriftEvent.state == "open")
    if session.exec(standing).first() is None:
        monitor.status = "collecting"
    else:
        monitor.status = "watching" if session.exec(drifted).first() is None else "alarmed"
    monitor.pending = {"skip": now_us()}
    session.add(monitor)
    audit(session, monitor.project_id, actor, "monitor.resumed", f"monitor:{monitor.id}", {})
