"""Traffic that switches to a worse variant, the monitors that see it, and the drift event."""

import hashlib
import math
import random
from typing import Any

from datasketches import kll_floats_sketch
from seeded_day.constants import HOSTILE, LEVELS, MINUTES, REPORT, SWITCH, add
from sqlmodel import Session

from driftline.moment import HOUR, MINUTE, SECOND
from driftline.store.hashing import sample_key
from driftline.store.tables import (
    Artifact,
    ClientCount,
    DriftEvent,
    Generation,
    Intake,
    Monitor,
    Reading,
    Reference,
    Rollup,
    Score,
)


def write_traffic(session: Session, project_id: int, variants: Any, dice: random.Random, now: int) -> Any:
    start = now // MINUTE * MINUTE - MINUTES * MINUTE
    seq = 0
    for minute in range(MINUTES):
        name = "smollm2-fp32" if minute < SWITCH else "smollm2-int8"
        sketch, n = kll_floats_sketch(200), dice.randrange(14, 26)
        slow = 1.0 if name == "smollm2-fp32" else 1.55
        latencies = [dice.lognormvariate(6.0, 0.25) * slow for _ in range(n)]
        for latency in latencies:
            sketch.update(latency)
            seq += 1
            if seq % 5 == 0:
                _generation(session, project_id, variants[name], name, seq, start + minute * MINUTE, latency, dice)
        session.add(
            Rollup(
                project_id=project_id,
                variant_id=variants[name].id,
                minute=start + minute * MINUTE,
                n=n,
                errors=int(minute % 17 == 0),
                input_tokens=21 * n,
                output_tokens=14 * n,
                cost_nano=31_000 * n,
                latency_n=n,
                latency_sum_ms=sum(latencies),
                weight_sum=float(n),
                latency_sketch=sketch.serialize(),
                ttft_sketch=sketch.serialize(),
            )
        )
    for reason, n in (("duplicates", 12), ("rejected", 3)):
        session.add(Intake(project_id=project_id, minute=start, reason=reason, n=n))
    for reason, n in (("sampled_out", 0), ("queue_full", 9)):
        session.add(
            ClientCount(
                project_id=project_id, client="web-1", variant="smollm2-int8", reason=reason, n=n, updated_at=now
            )
        )


def _generation(
    session: Session, project_id: int, variant: Any, name: Any, seq: Any, at: Any, latency: Any, dice: random.Random
) -> Any:
    row = Generation(
        project_id=project_id,
        id=f"call-{seq}",
        started_at=at + seq,
        received_at=at + seq + int(latency * 1000),
        variant_id=variant.id,
        input='[{"role": "user", "content": "Hi"}]',
        output=HOSTILE,
        latency_ms=latency,
        input_tokens=21,
        output_tokens=14,
        cost_nano=31_000,
        sample_key=sample_key(f"call-{seq}"),
        tags={"team": "a"},
    )
    add(session, row)
    session.add(
        Score(
            project_id=project_id,
            evaluator="baseline_likelihood",
            version="2",
            generation_seq=row.seq,
            created_at=at,
            value=min(1.0, max(0.0, dice.gauss(LEVELS[name], 0.1))),
        )
    )


def write_monitors(session: Session, project_id: int, variants: Any, folder: Any, dice: random.Random, now: int) -> Any:
    start, switched = now - 40 * 30 * SECOND, 25
    monitors, event = [], None
    for signal, source, status in (
        ("quality", "baseline_likelihood", "alarmed"),
        ("latency", "", "watching"),
        ("errors", "", "collecting"),
    ):
        monitor = Monitor(
            project_id=project_id,
            name=f"default/{signal}",
            signal=signal,
            source=source,
            status=status,
            detector="exceedance" if signal == "latency" else "esr",
            created_at=start,
            params={"direction": "fall", "margin": 0.01, "block_s": 30.0, "reference_items": 200, "reference_s": 60.0},
        )
        add(session, monitor)
        monitors.append(monitor)
        if status == "collecting":
            continue
        frozen = (
            {"mean": 0.62, "bound": 0.598, "m0": 0.588} if signal == "quality" else {"lines": [6.0], "bounds": [0.6]}
        )
        reference = Reference(
            monitor_id=monitor.id,
            content_hash="cd" * 32,
            n=412,
            since=start - HOUR,
            until=start,
            frozen=frozen,
            frozen_at=start,
        )
        add(session, reference)
        log_evidence, last = -1e9, None
        for block in range(40):
            bad = signal == "quality" and block >= switched
            value = dice.gauss(0.43 if bad else 0.62, 0.03)
            log_evidence = max(math.log1p(math.exp(min(log_evidence, 700.0))) + 3.1 * (0.588 - value) * 4, -4.0)
            alarmed = bad and log_evidence > 15.07 and event is None
            last = Reading(
                monitor_id=monitor.id,
                reference_id=reference.id,
                block_start=start + block * 30 * SECOND,
                block_end=start + (block + 1) * 30 * SECOND,
                n=dice.randrange(8, 14),
                value=value,
                statistic=log_evidence,
                threshold=15.07,
                alarmed=alarmed,
                created_at=now,
                evidence={"variants": {"smollm2-int8": 10}, "sample_hash": "ef" * 32, "level_mean": 400 + 100 * value},
            )
            add(session, last)
            if alarmed:
                event = _event(session, project_id, monitor, last, variants, folder, start + switched * 30 * SECOND)
    assert event is not None
    return event, monitors


def _event(
    session: Session, project_id: int, monitor: Any, reading: Any, variants: Any, folder: Any, began: Any
) -> Any:
    digest = hashlib.sha256(REPORT).hexdigest()
    (folder / "report.html").write_bytes(REPORT)
    add(
        session,
        Artifact(
            sha256=digest,
            project_id=project_id,
            kind="report",
            media_type="text/html",
            size=len(REPORT),
            url=f"file://{folder / 'report.html'}",
            created_at=began,
        ),
    )
    event = DriftEvent(
        project_id=project_id,
        monitor_id=monitor.id,
        reading_id=reading.id,
        variant_id=variants["smollm2-int8"].id,
        detected_at=reading.block_end,
        began_at=began,
        began_low=began - 45 * SECOND,
        began_high=began + 30 * SECOND,
        items_since=97,
        cause="variant",
        report_sha256=digest,
        explained_at=reading.block_end,
        effect={
            "unit": "score",
            "reference": 0.62,
            "current": 0.431,
            "estimate": -0.189,
            "low": -0.236,
            "high": -0.142,
            "level": 0.95,
        },
        evidence={
            "reasons": [
                "smollm2-int8 answers 100 % of traffic, 0 % before.",
                "On the same golden items it is worse than the one before.",
            ],
            "statistic": 16.2,
            "threshold": 15.07,
            "alpha": 0.00333,
            "blocks_per_year": 1_051_200,
            "captured_share": 0.994,
            "variants_before": {"smollm2-fp32": 1.0},
            "variants_after": {"smollm2-int8": 0.97, "smollm2-fp32": 0.03},
            "prompts": {"moved": False, "median_before": 21.0, "median_after": 21.0},
            "n_reference": 412,
            "n_after": 97,
            "sample_hash": "ef" * 32,
            "evidently": {
                "output_tokens": {"drift": True, "score": 0.312, "test": "Wasserstein distance (normed)"},
                "latency_ms": {"drift": True, "score": 0.0, "test": "K-S p_value"},
                "quality": {"drift": False, "score": 0.0713, "test": "K-S p_value"},
            },
            "columns": {
                "output_tokens": {"moved": False, "effect": 0.04, "p_value": 0.61},
                "latency_ms": {"moved": True, "effect": 0.43, "p_value": 5e-19},
                "quality": {"moved": True, "effect": 0.38, "p_value": 3e-14},
            },
            "answers": {"moved": False, "median_before": 14.0, "median_after": 14.0},
            "not_looked_at": ["probes_moved", "baseline_moved"],
            "same_model": {
                "state": "measured",
                "verdict": "changed",
                "by": "answers",
                "at": began,
                "because": "Its golden answers differ in kind.",
                "problem": None,
                "looked": [
                    {
                        "by": "fingerprint",
                        "verdict": "same",
                        "because": "Its fingerprint is the same.",
                        "rests_on": "0a1b2c then, 0a1b2c now",
                    },
                    {
                        "by": "answers",
                        "verdict": "changed",
                        "because": "Its golden answers differ in kind.",
                        "rests_on": "40 pairs, 3 identical, p 0.001; asked again <script>alert(1)",
                    },
                ],
            },
            "slices": [{"slice": "team = a", "n": 97, "estimate": -0.19, "low": -0.24, "high": -0.14}],
        },
    )
    add(session, event)
    return event
