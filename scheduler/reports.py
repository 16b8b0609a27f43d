"""The Evidently report of a drift event's window, kept as an artifact. It is read, it never alarms."""

from collections.abc import Sequence
from typing import Any

from driftline.moment import iso
from driftline.store.artifacts import keep, upload
from driftline.store.engine import reading, writing
from driftline.store.tables import DriftEvent, Generation
from evaluators.drift.report import window_report
from scheduler.scoring import messages_of
from scheduler.window import records_of, window_of
from scheduler.work import Work

MOST_ROWS = 2000  # a side


def report(work: Work) -> dict[str, Any]:
    """Writes the report of args["event_id"] and what Evidently's own defaults would have said."""
    with reading() as session:
        event = session.get_one(DriftEvent, work.args["event_id"])
        window = window_of(session, event)
        before, after = records_of(session, window.before), records_of(session, window.after)
    title = f"{window.monitor.name}: before and after {iso(window.change.began_at)}"
    judged = {row.generation_seq: row.level for row in [*window.before, *window.after]}
    made = window_report(
        table_of(before, judged, window.monitor.signal), table_of(after, judged, window.monitor.signal),
        max_rows=MOST_ROWS, title=title,
    )  # fmt: skip
    stored = upload(made.html.encode())
    with writing() as session:
        work.hold(session)
        event = session.get_one(DriftEvent, event.id, with_for_update=True)
        artifact = keep(session, event.project_id, stored, kind="report", media_type="text/html; charset=utf-8")
        event.report_sha256 = artifact.sha256
        # `event.explain` adds its own keys at the same time: the row is locked, so neither overwrites the other.
        event.evidence = event.evidence | {"evidently": made.defaults, "columns": made.data["columns"]}
        session.add(event)
    return {"sha256": artifact.sha256, "bytes": artifact.size}


def table_of(records: Sequence[Generation], judged: dict[int, float], signal: str) -> dict[str, list[Any]]:
    """The columns of a window: lengths, times, texts, status, variant key and the monitored value."""
    ordered = sorted(records, key=lambda row: row.seq)
    table: dict[str, list[Any]] = {
        "latency_ms": [row.latency_ms for row in ordered],
        "input_tokens": [row.input_tokens for row in ordered],
        "output_tokens": [row.output_tokens for row in ordered],
        "prompt": [_last_user_text(row) for row in ordered],
        "answer": [row.output for row in ordered],
        "status": [row.status for row in ordered],
        "model": [row.model for row in ordered],
    }
    if signal not in ("latency", "ttft"):
        table[signal] = [judged.get(row.seq) for row in ordered]
    return table


def _last_user_text(row: Generation) -> str | None:
    messages = messages_of(row.input)
    return messages[-1]["content"] if messages else None
