"""Variants, a golden set, replays of it and what they say of each other."""

import hashlib
import random
from typing import Any

from seeded_day.constants import CAPITALS, HOSTILE, LEVELS, add
from sqlmodel import Session, select

from driftline.moment import HOUR, MINUTE, SECOND
from driftline.store.tables import (
    Answer,
    Comparison,
    GoldenItem,
    GoldenSet,
    GoldenVersion,
    Replay,
    Route,
    Score,
    Variant,
)


def write_variants(session: Session, project_id: int, now: int) -> dict[str, Variant]:
    load = {"method": "load", "config": {"model": "smollm2-135m-instruct"}}
    chains = {
        "smollm2-fp32": [load],
        "smollm2-bf16": [load, {"method": "bf16", "config": {}}],
        "smollm2-int8": [load, {"method": "int8_dynamic", "config": {"skip": []}}],
        "smollm2-int8-repair": [load, {"method": "int8_weight_only", "config": {}}],
    }
    measured = {
        "smollm2-fp32": {
            "bytes_stored": 538_060_288,
            "perplexity": 30.1,
            "decode_tokens_per_s": 21.4,
            "ttft_ms": 61.0,
            "peak_rss_bytes": 1_420_000_000,
        },
        "smollm2-bf16": {
            "bytes_stored": 269_060_288,
            "perplexity": 30.2,
            "kl_to_parent": 0.0007,
            "top1_agreement": 0.994,
            "decode_tokens_per_s": 24.9,
            "ttft_ms": 52.0,
            "peak_rss_bytes": 905_000_000,
        },
        "smollm2-int8": {
            "bytes_stored": 162_800_000,
            "perplexity": 106.2,
            "kl_to_parent": 1.31,
            "top1_agreement": 0.613,
            "decode_tokens_per_s": 37.9,
            "ttft_ms": 40.2,
            "peak_rss_bytes": 700_000_000,
        },
    }
    made: dict[str, Variant] = {}
    for name, chain in chains.items():
        spec = {"runner": "transformers", "chain": chain, "runner_config": {}}
        made[name] = Variant(
            project_id=project_id,
            name=name,
            content_hash=hashlib.sha256(name.encode()).hexdigest(),
            spec=spec,
            parent_id=made["smollm2-fp32"].id if name != "smollm2-fp32" else None,
            created_at=now - 5 * HOUR,
            state={"smollm2-int8": "production", "smollm2-fp32": "shadow"}.get(name, "candidate"),
            build_state="built" if name in measured else "declared",
            measured=measured.get(name, {}),
            fingerprint="f" * 64 if name in measured else None,
        )
        add(session, made[name])
    made["outside"] = Variant(
        project_id=project_id,
        name=f"org/model {HOSTILE[:40]}",
        content_hash="0" * 64,
        spec={"runner": "external"},
        created_at=now,
    )
    add(session, made["outside"])
    add(
        session,
        Route(
            project_id=project_id,
            name="default",
            production_variant_id=made["smollm2-int8"].id,
            baseline_variant_id=made["smollm2-fp32"].id,
            version=3,
            updated_at=now,
        ),
    )
    return made


def write_golden(session: Session, project_id: int, now: int) -> tuple[GoldenVersion, list[GoldenItem]]:
    golden = GoldenSet(project_id=project_id, name="capitals", created_at=now - 4 * HOUR)
    add(session, golden)
    version = GoldenVersion(
        golden_set_id=golden.id,
        number=1,
        content_hash="ab" * 32,
        n_items=120,
        created_at=now - 4 * HOUR,
        source="countries of the world, package geonames 1.2",
        licence="CC BY 4.0",
    )
    add(session, version)
    items = []
    for place in range(120):
        country, capital = CAPITALS[place % len(CAPITALS)]
        text = (
            HOSTILE if place == 3 else f"What is the capital of {country}? Answer in one word. (question {place + 1})"
        )
        messages = [{"role": "system", "content": "Be brief."}] if place % 7 == 0 else []
        items.append(
            GoldenItem(
                version_id=version.id,
                position=place,
                content_hash=f"{place:064d}",
                expected=[capital],
                messages=[*messages, {"role": "user", "content": text}],
                tags={"region": "Africa" if country == "Kenya" else "elsewhere"},
            )
        )
    add(session, *items)
    return version, items


def write_replays(
    session: Session, project_id: int, variants: Any, version: Any, items: Any, dice: random.Random, now: int
) -> Any:
    replays: dict[str, Replay] = {}
    for name, level in LEVELS.items():
        replay = Replay(
            project_id=project_id,
            variant_id=variants[name].id,
            golden_version_id=version.id,
            state="done",
            n_items=len(items),
            requested_by="user:ada",
            created_at=now - 3 * HOUR,
            finished_at=now - 3 * HOUR + 90 * SECOND,
            scorers=["reference_likelihood", "contains"],
            sampling={"max_tokens": 24},
            fingerprint="f" * 64,
            measured={
                "answers": len(items), "latency_ms": 900 * level, "ttft_ms": 120.0, "joules_per_answer": 5.5,
                "cache_hit_rate": 0.25, "counts": {"cache_asked": 120, "cache_hits": 30},
            },
        )  # fmt: skip
        add(session, replay)
        replays[name] = replay
        for item in items:
            right = dice.random() < level
            answer = Answer(
                replay_id=replay.id,
                item_id=item.id,
                latency_ms=dice.gauss(420, 60) * (0.7 if name != "smollm2-fp32" else 1),
                text=(HOSTILE if item.position == 3 else item.expected[0] + ".")
                if right
                else "The the the capital of of",
                output_tokens=dice.randrange(2, 24),
                input_tokens=21,
                created_at=now,
                error="CUDA is not here" if item.position == 77 else None,
            )
            add(session, answer)
            value = min(1.0, max(0.0, dice.gauss(0.8 if right else 0.2, 0.06)))
            for evaluator, scored in (("reference_likelihood", value), ("contains", float(right))):
                session.add(
                    Score(
                        project_id=project_id,
                        evaluator=evaluator,
                        version="1",
                        answer_id=answer.id,
                        value=scored,
                        created_at=now,
                    )
                )
    replays["running"] = Replay(
        project_id=project_id,
        variant_id=variants["smollm2-bf16"].id,
        golden_version_id=version.id,
        state="running",
        n_items=120,
        requested_by="schedule:nightly",
        created_at=now - MINUTE,
    )
    add(session, replays["running"])
    return replays


def write_comparisons(session: Session, project_id: int, replays: Any, items: Any, now: int) -> Any:
    before, after = (_scores(session, replays[name]) for name in ("smollm2-fp32", "smollm2-int8"))
    flips = [
        {"item_id": key, "baseline": before[key], "candidate": after[key]}
        for key in before
        if abs(after[key] - before[key]) > 0.3
    ]
    latency = {"candidate_p50": 291.0, "baseline_p50": 418.0, "candidate_p95": 371.5, "baseline_p95": 522.0}
    slices = [
        {"slice": "region = Africa", "n": 24, "estimate": -0.302, "low": -0.41, "high": -0.19, "verdict": "worse"},
        {"slice": "region = elsewhere", "n": 95, "estimate": -0.188, "low": -0.25, "high": -0.12, "verdict": "worse"},
    ]

    def compared(name: str, evaluator: str, estimate: float, half: float, verdict: str, **more: object) -> Comparison:
        row = Comparison(
            project_id=project_id,
            candidate_replay_id=replays[name].id,
            baseline_replay_id=replays["smollm2-fp32"].id,
            evaluator=evaluator,
            evaluator_version="1",
            margin=0.02,
            level=0.95,
            n=119,
            unscored=1,
            candidate_mean=0.6 + estimate,
            baseline_mean=0.6,
            estimate=estimate,
            low=estimate - half,
            high=estimate + half,
            better=sum(flip["candidate"] > flip["baseline"] for flip in flips),
            worse=sum(flip["candidate"] < flip["baseline"] for flip in flips),
            ties=119 - len(flips),
            p_value=1e-9,
            verdict=verdict,
            method="BCa bootstrap",
            created_at=now - 2 * HOUR,
            **more,
        )
        add(session, row)
        return row

    kept = {"flips": flips, "latency": latency, "n_to_decide": None, "e_value": 4.2e9}
    return {
        "smollm2-int8": compared(
            "smollm2-int8", "reference_likelihood", -0.211, 0.041, "worse", evidence=kept, slices=slices
        ),
        "contains": compared("smollm2-int8", "contains", -0.19, 0.08, "worse", evidence=kept | {"flips": []}),
        "smollm2-bf16": compared("smollm2-bf16", "reference_likelihood", -0.001, 0.006, "equivalent"),
        "undecided": compared(
            "smollm2-bf16", "contains", -0.008, 0.031, "undecided", evidence={"n_to_decide": 640, "flips": []}
        ),
    }


def _scores(session: Session, replay: Replay) -> dict[int, float]:
    """Item → reference likelihood."""
    query = select(Answer.item_id, Score.value).join(Score, Score.answer_id == Answer.id)
    return dict(
        session.exec(query.where(Answer.replay_id == replay.id, Score.evaluator == "reference_likelihood")).all()
    )
