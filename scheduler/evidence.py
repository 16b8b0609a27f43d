"""The evidence of a re-optimization as one file: what failed, before and after, item by item (JSON Lines)."""

import json
from typing import Any

from sqlmodel import Session, select

from driftline.moment import iso
from driftline.store.tables import Answer, GoldenItem, Reoptimization, Replay, Variant
from scheduler.comparisons import scores_of

LOSS = 0.05  # from this difference on an item counts as lost
MEDIA_TYPE = "application/x-ndjson"
Told = dict[int, dict[str, Any]]  # item → {"text", "score", "error"}


def bundle(session: Session, row: Reoptimization, evidence: dict[str, Any], candidate_id: int) -> bytes:
    """The file's bytes, with `candidate_id` as the variant that was chosen.

    The first line is the head: why, the gate and every candidate's verdict. Then the slices in which the variant that
    shall be replaced lost most, and the test items it lost against the baseline, the largest loss first, each with
    what the baseline, that variant (`before`) and the chosen candidate (`after`) answered.
    """
    evaluator = row.plan["evaluator"]
    chosen = next((e for e in evidence["candidates"] if e.get("variant_id") == candidate_id), None)
    sides = {
        "baseline": evidence.get("gate", {}).get("baseline_replay_id") or evidence.get("baseline_replay_id"),
        "before": (evidence.get("before") or {}).get("replay_id"),
        "after": (chosen or {}).get("replay_id"),
    }
    answers = {side: _answers(session, replay_id, evaluator) for side, replay_id in sides.items()}
    of_version = select(GoldenItem).where(GoldenItem.version_id == row.plan["golden_version_id"])
    items = {item.id: item for item in session.exec(of_version) if item.split == "test"}
    lost = sorted(
        ((loss, key) for key in items if (loss := _loss(answers, key)) is not None and loss >= LOSS), reverse=True
    )
    head = {
        "kind": "head", "reoptimization": row.id, "route": row.route, "created_at": iso(row.created_at),
        "because": row.plan.get("because"), "cause": row.plan.get("cause"), "evaluator": evaluator,
        "margin": row.plan.get("margin"), "gate": evidence.get("gate"), "candidates": evidence["candidates"],
        "replaces": session.get_one(Variant, row.subject_variant_id).name,
        "chosen": chosen["name"] if chosen else None, "items_lost": len(lost), "items": len(items),
    }  # fmt: skip
    lines = [head, *_slices(items, [key for _, key in lost])]
    for loss, key in lost:
        item = items[key]
        lines.append(
            {
                "kind": "item",
                "item_id": key,
                "loss": loss,
                "tags": item.tags,
                "input": item.messages,
                "expected": item.expected,
                **{side: told.get(key) for side, told in answers.items()},
            }
        )
    return "".join(json.dumps(line, ensure_ascii=False, default=str) + "\n" for line in lines).encode()


def _answers(session: Session, replay_id: int | None, evaluator: str) -> Told:
    replay = session.get(Replay, replay_id) if replay_id is not None else None
    if replay is None:
        return {}
    scores, _ = scores_of(session, replay, evaluator)
    found = session.exec(select(Answer).where(Answer.replay_id == replay.id))
    return {one.item_id: {"text": one.text, "score": scores.get(str(one.item_id)), "error": one.error} for one in found}


def _loss(answers: dict[str, Told], item: int) -> float | None:
    good, bad = (answers[side].get(item) for side in ("baseline", "before"))
    if not good or not bad or good["score"] is None:
        return None
    return float(good["score"] - (0.0 if bad["error"] else bad["score"] or 0.0))


def _slices(items: dict[int, GoldenItem], lost: list[int]) -> list[dict[str, Any]]:
    """Tag values by how many of their items were lost, most first."""
    totals: dict[tuple[str, str], list[int]] = {}
    for key, item in items.items():
        for pair in item.tags.items():
            counts = totals.setdefault(pair, [0, 0])
            counts[0] += 1
            counts[1] += key in lost
    ranked = sorted(totals.items(), key=lambda one: (-one[1][1] / one[1][0], one[0]))
    return [
        {"kind": "slice", "slice": f"{name}={value}", "items": n, "lost": gone}
        for (name, value), (n, gone) in ranked
        if gone
    ]
