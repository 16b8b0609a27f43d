"""What the demo found, read from the same rows that the pages show."""

from typing import TYPE_CHECKING, Any

from sqlmodel import Session, col, func, select

from driftline.acts.variants import find_variant
from driftline.cli.demo.app import App
from driftline.moment import SECOND, iso
from driftline.store.engine import reading
from driftline.store.tables import (
    Comparison,
    DriftEvent,
    Generation,
    Monitor,
    Notification,
    Reading,
    Reoptimization,
    Replay,
    Variant,
)

if TYPE_CHECKING:
    from driftline.cli.demo.story import Story


def judged(project_id: int, name: str, evaluator: str) -> str:
    """One line: a variant's verdict on the golden set."""
    row = comparison_of(project_id, name, evaluator)
    if row is None:
        return f"{name}: not compared"
    return (
        f"{name}: {row.verdict} ({row.evaluator} {row.estimate:+.3f} [{row.low:+.3f}, {row.high:+.3f}] "
        f"on {row.n} items, {row.worse} worse, {row.better} better)"
    )


def explained_events(project_id: int) -> list[tuple[DriftEvent, Monitor]]:
    """Drift events with their explanation, oldest first."""
    with reading() as session:
        query = select(DriftEvent, Monitor).join(Monitor, col(Monitor.id) == col(DriftEvent.monitor_id))
        query = query.where(DriftEvent.project_id == project_id, col(DriftEvent.explained_at).is_not(None))
        return list(session.exec(query.order_by(col(DriftEvent.id))).all())


def injected_events(story: "Story") -> list[tuple[DriftEvent, Monitor]]:
    """Of these the ones in a signal in which drift is injected."""
    return [pair for pair in explained_events(story.project_id) if pair[1].signal in story.signals]


def reports_written(story: "Story") -> bool:
    """Whether every drift event in a signal in which drift is injected has its Evidently report."""
    return all(event.report_sha256 is not None for event, _ in injected_events(story))


def document(story: "Story", app: App, injected_s: float) -> dict[str, Any]:
    """The final table: what was injected, what was found, after how many items."""
    project_id, broken, told = story.project_id, story.broken, story.receiver.received
    harmless = [story.harmless] if story.harmless else []
    injected = int(injected_s * SECOND)
    rows = [_golden_row(story, broken, "broken"), *(_golden_row(story, name, "harmless") for name in harmless)]
    events = explained_events(project_id)
    early = 0
    for event, monitor in events:
        began = event.began_at or 0
        early += event.detected_at < injected
        if monitor.signal not in story.signals:
            continue
        after = _records_between(project_id, monitor.route, injected, event.detected_at)
        rows.append(
            {
                "what": f"{monitor.name} drift", "injected": iso(injected), "cause": event.cause,
                "signal": monitor.signal,
                "found": f"after {after} records ({(event.detected_at - injected) / SECOND:.0f} s); "
                f"began {(began - injected) / SECOND:+.1f} s from it; cause: {event.cause}",
                "began_at": iso(began), "detected_at": iso(event.detected_at), "records_to_detection": after,
                "effect": event.effect, "alarm_before_injection": event.detected_at < injected,
            }
        )  # fmt: skip
    signals = {monitor.signal for _, monitor in events}
    rows += [
        {"what": f"{signal} drift", "injected": iso(injected), "found": "not found in time", "signal": signal}
        for signal in sorted(story.signals - signals)
    ]
    beside = [f"{monitor.signal} ({event.cause})" for event, monitor in events if monitor.signal not in story.signals]
    if beside:
        rows.append({"what": "moved with it", "injected": "–", "found": ", ".join(beside)})
    with reading() as session:
        stored = session.exec(
            select(func.count()).select_from(Generation).where(Generation.project_id == project_id)
        ).one()
        sent = session.exec(select(func.count()).select_from(Notification).where(Notification.state == "sent")).one()
        repair = repair_of(session, project_id)
        repaired = _repair_row(session, repair, injected)
        quiet = session.exec(select(func.count()).select_from(Reading).where(Reading.block_end < injected)).one()
    rows += [
        {"what": "blocks judged before it", "injected": "nothing", "found": f"{early} alarms in {quiet} blocks"},
        {"what": "records", "injected": f"{app.sent} sent", "found": f"{stored} stored"},
        {"what": "alerts", "injected": "–", "found": f"{sent} delivered, {len(told)} received by the webhook"},
        repaired,
    ]
    complete = (
        story.signals <= signals and early == 0 and stored == app.sent and repair is not None
        and (repair.state == "promoted" or not story.auto)
        and story.verdict(broken) == "worse" and all(story.verdict(name) != "worse" for name in harmless)
    )  # fmt: skip
    return {
        "complete": complete,
        "rows": rows,
        "injected_at": iso(injected),
        "variant": broken,
        "notes": story.notes,
        "sdk": app.stats,
    }


def repair_of(session: Session, project_id: int) -> Reoptimization | None:
    """The first repair that was proposed, as it stands now."""
    of_project = select(Reoptimization).where(Reoptimization.project_id == project_id)
    return session.exec(of_project.order_by(col(Reoptimization.id))).first()


def _repair_row(session: Session, repair: Reoptimization | None, injected: int) -> dict[str, Any]:
    """How the repair stands, who approved it and, where it has ended, what serves now and how soon it did."""
    row: dict[str, Any] = {"what": "repair", "injected": "–", "found": "none"}
    if repair is None:
        return row
    words = f"{repair.state}: {repair.plan['because']}"
    row |= {"state": repair.state, "approved_by": repair.decided_by}
    if repair.state == "promoted" and repair.finished_at is not None:
        serving = session.get_one(Variant, repair.candidate_variant_id).name
        after_s = (repair.finished_at - injected) / SECOND
        row |= {"promoted": serving, "promoted_after_s": after_s}
        words = f"{serving} promoted {after_s:.0f} s after the injection, approved by {repair.decided_by}"
    elif repair.finished_at is not None:
        words = f"{repair.state}: {repair.reason}"
    return row | {"found": words}


def _golden_row(story: "Story", name: str, injected: str) -> dict[str, Any]:
    found = judged(story.project_id, name, story.deciding).partition(": ")[2]
    return {
        "what": f"{name} on the golden set", "injected": injected, "found": found, "verdict": story.verdict(name),
    }  # fmt: skip


def comparison_of(project_id: int, name: str, evaluator: str) -> Comparison | None:
    """The newest comparison of a variant by an evaluator."""
    with reading() as session:
        variant = find_variant(session, project_id, name)
        replays = select(Replay.id).where(Replay.variant_id == variant.id)
        of_variant = select(Comparison).where(col(Comparison.candidate_replay_id).in_(replays))
        return session.exec(
            of_variant.where(Comparison.evaluator == evaluator).order_by(col(Comparison.id).desc())
        ).first()


def _records_between(project_id: int, route: str, since: int, until: int) -> int:
    with reading() as session:
        query = select(func.count()).select_from(Generation)
        query = query.where(Generation.project_id == project_id, Generation.route == route)
        return session.exec(query.where(Generation.started_at >= since, Generation.started_at < until)).one()
