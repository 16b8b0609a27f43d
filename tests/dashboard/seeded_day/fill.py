"""A store as it looks after a day in production, and one row of everything in somebody else's project."""

import random
from dataclasses import dataclass, field
from pathlib import Path

from seeded_day.constants import add
from seeded_day.follows import write_alerts, write_repairs, write_work
from seeded_day.models import write_comparisons, write_golden, write_replays, write_variants
from seeded_day.production import write_monitors, write_traffic
from sqlmodel import Session

from driftline.moment import MINUTE, now_us
from driftline.store.projects import create_key, ensure_project
from driftline.store.tables import (
    Alert,
    AlertRule,
    Channel,
    Comparison,
    DriftEvent,
    Generation,
    GoldenSet,
    GoldenVersion,
    Job,
    Monitor,
    Reading,
    Reference,
    Reoptimization,
    Replay,
    Rollup,
    Schedule,
    Silence,
    Variant,
)


@dataclass
class Seeded:
    """Keys of what was written, by name."""

    project_id: int
    foreign_key: str
    ids: dict[str, int] = field(default_factory=dict)
    foreign_ids: dict[str, int] = field(default_factory=dict)


def fill(session: Session, folder: Path) -> Seeded:
    """Fills an upgraded, empty store."""
    project = ensure_project(session)
    dice, now = random.Random(7), now_us()
    seeded = Seeded(project.id, "")
    variants = write_variants(session, project.id, now)
    version, items = write_golden(session, project.id, now)
    replays = write_replays(session, project.id, variants, version, items, dice, now)
    comparisons = write_comparisons(session, project.id, replays, items, now)
    write_traffic(session, project.id, variants, dice, now)
    event, monitors = write_monitors(session, project.id, variants, folder, dice, now)
    alert, channel = write_alerts(session, project.id, event, comparisons["smollm2-int8"], now)
    proposed, promoted = write_repairs(session, project.id, event, variants, version, replays, comparisons, now)
    schedule = write_work(session, project.id, replays, now)
    seeded.ids = {
        "alert": alert.id,
        "channel": channel.id,
        "event": event.id,
        "proposed": proposed.id,
        "promoted": promoted.id,
        "comparison": comparisons["smollm2-int8"].id,
        "undecided": comparisons["undecided"].id,
        "replay": replays["smollm2-int8"].id,
        "running": replays["running"].id,
        "monitor": monitors[0].id,
        "schedule": schedule.id,
        "version": version.id,
        "variant": variants["smollm2-int8"].id,
    }
    _foreign(session, seeded, now)
    return seeded


def _foreign(session: Session, seeded: Seeded, now: int) -> None:
    """One row of everything in another project, and a key that opens it."""
    other = ensure_project(session, "other")
    variant = Variant(project_id=other.id, name="theirs", content_hash="1" * 64, created_at=now)
    golden = GoldenSet(project_id=other.id, name="their-set", created_at=now)
    monitor = Monitor(project_id=other.id, name="their-monitor", signal="errors", detector="esr", created_at=now)
    rule = AlertRule(project_id=other.id, name="their-rule", on="drift", created_at=now)
    add(session, variant, golden, monitor, rule)
    version = GoldenVersion(
        golden_set_id=golden.id, number=1, content_hash="2" * 64, n_items=1, source="theirs", created_at=now
    )
    reference = Reference(monitor_id=monitor.id, content_hash="3" * 64, n=1, since=now, until=now, frozen_at=now)
    add(session, version, reference)
    replay = Replay(
        project_id=other.id,
        variant_id=variant.id,
        golden_version_id=version.id,
        n_items=1,
        requested_by="them",
        created_at=now,
    )
    reading = Reading(
        monitor_id=monitor.id,
        reference_id=reference.id,
        block_start=now,
        block_end=now,
        n=1,
        statistic=0.0,
        threshold=1.0,
        created_at=now,
    )
    add(session, replay, reading)
    comparison = Comparison(
        project_id=other.id,
        candidate_replay_id=replay.id,
        baseline_replay_id=replay.id,
        evaluator="their-scorer",
        evaluator_version="1",
        margin=0.0,
        level=0.95,
        n=1,
        unscored=0,
        candidate_mean=0,
        baseline_mean=0,
        estimate=0,
        low=0,
        high=0,
        better=0,
        worse=0,
        ties=1,
        verdict="undecided",
        method="none",
        created_at=now,
    )
    event = DriftEvent(project_id=other.id, monitor_id=monitor.id, reading_id=reading.id, detected_at=now)
    alert = Alert(
        project_id=other.id, rule_id=rule.id, dedup_key="theirs", severity="page", title="their-alert", fired_at=now
    )
    repair = Reoptimization(project_id=other.id, subject_variant_id=variant.id, created_at=now, updated_at=now)
    generation = Generation(
        project_id=other.id, id="their-call", started_at=now, received_at=now, variant_id=variant.id, sample_key=1
    )
    schedule = Schedule(
        project_id=other.id,
        name="their-schedule",
        kind="replay",
        queue="replay",
        every_s=60.0,
        created_at=now,
        updated_at=now,
    )
    job = Job(project_id=other.id, kind="their.job", queue="replay", due_at=now, created_at=now)
    channel = Channel(project_id=other.id, name="their-channel", kind="slack", created_at=now)
    silence = Silence(
        project_id=other.id,
        matchers={"route": "theirs"},
        since=now,
        until=now + MINUTE,
        created_by="them",
        created_at=now,
    )
    add(session, comparison, event, alert, repair, generation, schedule, job, channel, silence)
    add(session, Rollup(project_id=other.id, variant_id=variant.id, minute=now // MINUTE * MINUTE, n=1))
    seeded.foreign_ids = {
        "generations": generation.seq,
        "variants": variant.id,
        "golden-sets": golden.id,
        "replays": replay.id,
        "comparisons": comparison.id,
        "monitors": monitor.id,
        "readings": reading.id,
        "drift-events": event.id,
        "alerts": alert.id,
        "reoptimizations": repair.id,
        "schedules": schedule.id,
        "jobs": job.id,
        "rules": rule.id,
        "channels": channel.id,
        "silences": silence.id,
        "golden-versions": version.id,
    }
    seeded.foreign_key = create_key(session, other, "theirs", ["read", "admin"], "test")
    # The test decides whether this key counts: while any key lives, loopback is no longer open to everybody.
