"""Adding monitors, closing their events, choosing a new reference: each an explicit, logged act."""

from typing import Any

from sqlmodel import Session, col, select

from driftline.acts.alerts import resolve
from driftline.errors import BadInput, Conflict, NotFound
from driftline.moment import now_us
from driftline.settings import settings
from driftline.store.claims import claim
from driftline.store.projects import audit
from driftline.store.tables import Alert, DriftEvent, Monitor, Reference

# What each signal is watched with, unless the monitor says otherwise (DETECTION: margins per signal).
SIGNALS: dict[str, dict[str, Any]] = {
    "errors": {"detector": "esr", "direction": "rise", "margin": 0.01},
    "empty": {"detector": "esr", "direction": "rise", "margin": 0.01},
    "quality": {"detector": "esr", "direction": "fall", "margin": 0.01},
    "latency": {"detector": "exceedance", "direction": "rise", "margin": 0.10},
    "ttft": {"detector": "exceedance", "direction": "rise", "margin": 0.10},
}
REFERENCE_ITEMS = 2000
REFERENCE_S = 24 * 3600.0
LEAST = {"margin": 0, "block_s": 0.001, "min_block_items": 1, "reference_items": 1, "reference_s": 0}


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
    params: dict[str, Any] | None = None,
) -> Monitor:
    """A monitor that first collects its reference, then judges block after block.

    `params` may set `margin`, `block_s`, `min_block_items`, `reference_items`, `reference_s` (the reference is frozen
    when both are reached). `source` names the evaluator whose scores a quality monitor reads.

    Raises:
        BadInput: An unknown signal or parameter, a weight not above 0, a quality monitor without a source.
        Conflict: The name is taken.
    """
    if signal not in SIGNALS:
        raise BadInput(f"There is no signal {signal!r}. Known: {', '.join(SIGNALS)}.")
    if signal == "quality" and not source:
        raise BadInput(
            "A quality monitor reads an evaluator's scores: name it as the source, e.g. baseline_likelihood."
        )
    if weight <= 0:
        raise BadInput(f"A monitor's weight is its share of the false-alarm budget and above 0; got {weight}.")
    defaults = {
        **SIGNALS[signal],
        "block_s": settings().block_s,
        "min_block_items": 1,
        "reference_items": REFERENCE_ITEMS,
        "reference_s": REFERENCE_S,
    }
    unknown = set(params or {}) - set(defaults)
    if unknown:
        raise BadInput(f"A monitor has no parameter {sorted(unknown)[0]!r}. Known: {', '.join(sorted(defaults))}.")
    taken = select(Monitor).where(Monitor.project_id == project_id, Monitor.name == name)
    if session.exec(taken).first() is not None:
        raise Conflict(f"There is a monitor named {name} already.")
    chosen = defaults | (params or {})
    _check(chosen)
    monitor = Monitor(
        project_id=project_id, name=name, signal=signal, source=source, route=route, weight=weight,
        detector=chosen.pop("detector"), params=chosen, created_at=now_us(),
    )  # fmt: skip
    session.add(monitor)
    session.flush()
    audit(session, project_id, actor, "monitor.added", f"monitor:{monitor.id}", {"name": name, "params": chosen})
    return monitor


def _check(params: dict[str, Any]) -> None:
    if params["direction"] not in ("rise", "fall"):
        raise BadInput(f"A monitor's direction is rise or fall; got {params['direction']!r}.")
    for name, least in LEAST.items():
        value = params[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < 1e9:
            raise BadInput(f"A monitor's {name} is a number, at least {least}; got {value!r}.")


def ensure_defaults(
    session: Session, project_id: int, route: str, params: dict[str, Any] | None = None
) -> list[Monitor]:
    """The monitors that every route has from its first hour: errors, latency and label-free quality."""
    monitors = []
    for signal, source in (("errors", ""), ("latency", ""), ("quality", "baseline_likelihood")):
        name = f"{route}/{signal}"
        known = session.exec(select(Monitor).where(Monitor.project_id == project_id, Monitor.name == name)).first()
        monitors.append(
            known or add(session, project_id, name, signal, "default", route=route, source=source, params=params)
        )
    return monitors


def find_monitor(session: Session, project_id: int, name: str) -> Monitor:
    """The monitor of that name.

    Raises:
        NotFound: Lists the monitors there are.
    """
    monitors = {row.name: row for row in session.exec(select(Monitor).where(Monitor.project_id == project_id))}
    if name not in monitors:
        raise NotFound("monitor", name, sorted(monitors))
    return monitors[name]


def close_event(session: Session, event: DriftEvent, actor: str) -> None:
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
    standing = select(Alert).where(Alert.drift_event_id == event.id, Alert.state != "resolved")
    for alert in session.exec(standing).all():
        resolve(session, alert, actor)
    audit(session, event.project_id, actor, "event.closed", f"drift_event:{event.id}", {})


def rebaseline(session: Session, monitor: Monitor, actor: str) -> None:
    """Lays the reference aside; the monitor collects a new one from the traffic that comes from now on."""
    now = now_us()
    for reference in session.exec(
        select(Reference).where(Reference.monitor_id == monitor.id, col(Reference.replaced_at).is_(None))
    ):
        reference.replaced_at = now
        session.add(reference)
    monitor.status, monitor.state, monitor.pending = "collecting", None, {}
    session.add(monitor)
    audit(
        session, monitor.project_id, actor, "monitor.rebaselined", f"monitor:{monitor.id}", {"cursor": monitor.cursor}
    )


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
