"""What the answers of two replays cost: latency, tokens, money, energy and memory, side by side."""

import math
from collections.abc import Sequence
from statistics import fmean, median, stdev
from typing import Any

from sqlmodel import Session, select

from driftline.store.tables import Answer, Replay, Variant

Z = 1.96  # of a 95 % interval
SPENT = (("money", "USD an answer", "cost_nano", 1e9), ("energy", "J an answer", "joules", 1.0))
MEMORY = ("bytes_in_memory", "peak_rss_bytes", "bytes_stored")


def cost_table(session: Session, candidate: Replay, baseline: Replay) -> list[dict[str, Any]]:
    """One row per quantity that both sides have: its name, unit, both values and their ratio.

    Rows taken item by item (latency, first token, tokens) have the interval of the mean ratio (95 %, of logarithms of
    paired values) as `low` and `high`.
    """
    ours, theirs = _answers(session, candidate), _answers(session, baseline)
    common = sorted(ours.keys() & theirs.keys())
    rows = []
    for name, unit, place in (("latency", "ms", 0), ("first token", "ms", 1), ("output tokens", "tokens", 2)):
        pairs = [
            (float(a), float(b))
            for key in common
            if (a := ours[key][place]) is not None and (b := theirs[key][place]) is not None and a > 0 and b > 0
        ]
        if pairs:
            rows.append(_paired(name, unit, pairs))
    for name, unit, column, scale in (
        ("money", "USD an answer", "cost_nano", 1e9),
        ("energy", "J an answer", "joules", 1.0),
    ):
        sides = [getattr(one, column) / scale / one.calls if one.calls else 0.0 for one in (candidate, baseline)]
        if all(sides):
            rows.append(_row(name, unit, *sides))
    measured = [session.get_one(Variant, one.variant_id).measured for one in (candidate, baseline)]
    for name in MEMORY:
        if all(one.get(name) for one in measured):
            rows.append(_row(name.replace("_", " "), "bytes", *(float(one[name]) for one in measured)))
    return rows


def latencies(session: Session, candidate: Replay, baseline: Replay) -> dict[str, float]:
    """Median and 95 % quantile of both sides' latencies, milliseconds."""
    figures: dict[str, float] = {}
    for side, replay in (("candidate", candidate), ("baseline", baseline)):
        found = session.exec(select(Answer.latency_ms).where(Answer.replay_id == replay.id))
        ranked = sorted(ms for ms in found if ms is not None)
        if ranked:
            figures[f"{side}_p50"] = median(ranked)
            figures[f"{side}_p95"] = ranked[min(len(ranked) - 1, int(0.95 * len(ranked)))]
    return figures


def _answers(session: Session, replay: Replay) -> dict[int, tuple[float | None, float | None, int | None]]:
    of_replay = select(Answer.item_id, Answer.latency_ms, Answer.ttft_ms, Answer.output_tokens).where(
        Answer.replay_id == replay.id,
        Answer.repeat == 0,
        Answer.error == None,  # noqa: E711
    )
    return {item: (latency, ttft, tokens) for item, latency, ttft, tokens in session.exec(of_replay)}


def _paired(name: str, unit: str, pairs: Sequence[tuple[float, float]]) -> dict[str, Any]:
    logs = [math.log(a / b) for a, b in pairs]
    reach = Z * stdev(logs) / math.sqrt(len(logs)) if len(logs) > 1 else math.inf
    row = _row(name, unit, median(a for a, _ in pairs), median(b for _, b in pairs))
    if math.isfinite(reach):
        row |= {"low": math.exp(fmean(logs) - reach), "high": math.exp(fmean(logs) + reach)}
    return row | {"ratio": math.exp(fmean(logs)), "n": len(pairs)}


def _row(name: str, unit: str, candidate: float, baseline: float) -> dict[str, Any]:
    return {"name": name, "unit": unit, "candidate": candidate, "baseline": baseline, "ratio": candidate / baseline}
