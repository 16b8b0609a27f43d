"""What follows from a drift event: alerts, repairs, work."""

from typing import Any

from seeded_day.constants import HOSTILE, add
from sqlmodel import Session

from driftline.moment import HOUR, MINUTE, SECOND
from driftline.store.tables import (
    Alert,
    AlertRule,
    AuditEntry,
    Channel,
    Job,
    Notification,
    Process,
    Reoptimization,
    Schedule,
    Silence,
)


def write_alerts(session: Session, project_id: int, event: Any, comparison: Any, now: int) -> Any:
    channel = Channel(project_id=project_id, name="team-slack", kind="slack", secret=b"sealed", created_at=now)
    rule = AlertRule(project_id=project_id, name="drift", on="drift", channels=["team-slack"], created_at=now)
    add(session, channel, rule)
    standing = {"project_id": project_id, "rule_id": rule.id, "severity": "page"}
    labels = {
        "route": "default",
        "variant": "smollm2-int8",
        "signal": "quality",
        "monitor": "default/quality",
        "cause": "variant",
    }
    body = {
        "summary": "Quality of route default fell by 0.189 since smollm2-int8 answers.",
        "cause": "variant",
        "began_at": event.began_at,
        "effect": event.effect,
        "variant": "smollm2-int8",
        "route": "default",
        "items_since": 97,
    }
    firing = Alert(
        **standing,
        dedup_key="drift:1:1",
        title="Quality drift on route default",
        labels=labels,
        body=body,
        drift_event_id=event.id,
        fired_at=event.detected_at,
    )
    acknowledged = Alert(
        **standing,
        dedup_key="comparison:1",
        title=f"smollm2-int8 is worse than smollm2-fp32 {HOSTILE}",
        state="acknowledged",
        labels={"variant": "smollm2-int8"},
        comparison_id=comparison.id,
        fired_at=now - 2 * HOUR,
        acknowledged_at=now - HOUR,
        acknowledged_by="user:ada",
    )
    resolved = Alert(
        **standing,
        dedup_key="drift:2:1#3",
        title="Latency drift on route default",
        state="resolved",
        labels={"route": "default"},
        fired_at=now - 30 * HOUR,
        resolved_at=now - 29 * HOUR,
        resolved_by="key:ci",
    )
    add(session, firing, acknowledged, resolved)
    add(
        session,
        Notification(
            alert_id=firing.id,
            channel_id=channel.id,
            happening="fired",
            state="sent",
            attempt=1,
            due_at=now,
            sent_at=now,
            response="200 ok",
        ),
        Notification(
            alert_id=resolved.id,
            channel_id=channel.id,
            happening="fired",
            state="failed",
            attempt=5,
            due_at=now,
            response=f"503 {HOSTILE}",
        ),
        Silence(
            project_id=project_id,
            matchers={"variant": "smollm2-old"},
            until=now + HOUR,
            created_by="user:ada",
            comment="known, being rebuilt",
            created_at=now,
        ),
    )
    return firing, channel


def write_repairs(
    session: Session, project_id: int, event: Any, variants: Any, version: Any, replays: Any, comparisons: Any, now: int
) -> Any:
    plan = {
        "because": "Quality of route default fell by 0.189 since smollm2-int8 answers.",
        "cause": "variant",
        "margin": 0.02,
        "evaluator": "reference_likelihood",
        "golden_version_id": version.id,
        "candidates": [
            {
                "name": "smollm2-int8-repair",
                "spec": {},
                "why": "more bits: eight per weight, activations left as they are",
            },
            {"name": "smollm2-bf16", "spec": {}, "why": "half precision instead of integers"},
        ],
    }
    shared = {
        "project_id": project_id,
        "subject_variant_id": variants["smollm2-int8"].id,
        "plan": plan,
        "baseline_variant_id": variants["smollm2-fp32"].id,
    }
    promoted = Reoptimization(
        **shared,
        state="promoted",
        candidate_variant_id=variants["smollm2-bf16"].id,
        decided_by="user:ada",
        created_at=now - 26 * HOUR,
        updated_at=now - 25 * HOUR,
        finished_at=now - 25 * HOUR,
        evidence={
            "candidates": [
                {
                    "variant_id": variants["smollm2-bf16"].id,
                    "name": "smollm2-bf16",
                    "replay_id": replays["smollm2-bf16"].id,
                    "comparison_id": comparisons["smollm2-bf16"].id,
                    "verdict": "equivalent",
                    "estimate": -0.001,
                    "low": -0.007,
                    "high": 0.005,
                    "passed": True,
                    "latency_p50_ms": 301.0,
                    "bytes_stored": 269_060_288,
                },
                {
                    "name": "smollm2-int8-repair",
                    "verdict": "worse",
                    "estimate": -0.06,
                    "low": -0.09,
                    "high": -0.03,
                    "passed": False,
                },
            ]
        },
    )
    proposed = Reoptimization(**shared, drift_event_id=event.id, created_at=now, updated_at=now)
    add(session, promoted, proposed)
    for hours, actor, state in (
        (26.0, "scheduler", "proposed"),
        (25.8, "user:ada", "approved"),
        (25.6, "scheduler", "building"),
        (25.4, "scheduler", "replaying"),
        (25.2, "scheduler", "gated"),
        (25.0, "scheduler", "promoted"),
    ):
        session.add(
            AuditEntry(
                project_id=project_id,
                at=now - int(hours * HOUR),
                actor=actor,
                action=f"reoptimization.{state}",
                subject=f"reoptimization:{promoted.id}",
                detail={"reason": HOSTILE} if state == "approved" else {},
            )
        )
    return proposed, promoted


def write_work(session: Session, project_id: int, replays: Any, now: int) -> Any:
    jobs = (
        ("replay.run", "replay", "running", 44, 120, None, f"replay:{replays['running'].id}"),
        ("variant.build", "build", "queued", 0, 0, None, "variant:4"),
        ("replay.run", "replay", "done", 120, 120, None, f"replay:{replays['smollm2-int8'].id}"),
        ("channel.test", "notify", "failed", 0, 0, f"The channel did not answer: {HOSTILE}", "channel:1"),
    )
    for kind, queue, state, reached, total, error, subject in jobs:
        ended = state in ("done", "failed")
        session.add(
            Job(
                project_id=project_id,
                kind=kind,
                queue=queue,
                state=state,
                progress_done=reached,
                progress_total=total,
                subject=subject,
                error=error,
                attempt=1,
                due_at=now - MINUTE,
                created_at=now - MINUTE,
                started_at=now - MINUTE,
                finished_at=now if ended else None,
                note="about 40 s left" if state == "running" else None,
            )
        )
    for name, age, restarts in (("web", 2 * SECOND, 0), ("clock", SECOND, 1), ("worker", 90 * SECOND, 0)):
        session.add(
            Process(
                host="box",
                name=name,
                pid=4711,
                started_at=now - (5 * MINUTE if restarts else 3 * HOUR),
                seen_at=now - age,
                restarts=restarts,
                last_exit="SIGKILL" if restarts else None,
            )
        )
    schedule = Schedule(
        project_id=project_id,
        name="nightly",
        kind="replay",
        queue="replay",
        cron="0 3 * * *",
        timezone="Europe/Berlin",
        args={"variant": "smollm2-bf16", "golden": "capitals"},
        created_at=now,
        updated_at=now,
    )
    add(session, schedule)
    return schedule
