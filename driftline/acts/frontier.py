"""Which variants are worth having: nobody beats them in quality, latency, memory, energy and cost at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session, col, func, select

from driftline.store.tables import Answer, GoldenVersion, Replay, Score, Variant

MORE, LESS = ("quality",), ("latency_ms", "bytes_stored", "joules_per_answer", "usd_per_1000")


@dataclass(frozen=True)
class Standing:
    """A variant's newest replay of a golden version: the mean of `evaluator`, and what it took."""

    variant: str
    replay: int
    evaluator: str
    figures: Mapping[str, float]
    is_best: bool  # on the frontier


def standings(session: Session, project_id: int, version: GoldenVersion | None = None) -> list[Standing]:
    """Every variant with a finished replay of the version (of the one replayed last, where none is named).

    Ordered by quality, best first.
    """
    of_project = select(Replay).where(Replay.project_id == project_id, Replay.state == "done")
    if version is None:
        newest = session.exec(of_project.order_by(col(Replay.id).desc()).limit(1)).first()
        version_id = newest.golden_version_id if newest else None
    else:
        version_id = version.id
    rows: dict[int, Replay] = {}
    for replay in session.exec(of_project.where(Replay.golden_version_id == version_id).order_by(col(Replay.id))):
        rows[replay.variant_id] = replay
    common = [name for name in _scorers(rows) if all(name in row.scorers for row in rows.values())]
    variants = {row.id: row for row in session.exec(select(Variant).where(col(Variant.id).in_(rows)))}
    means = _means(session, [replay.id for replay in rows.values()], common[0]) if common else {}
    found: list[tuple[Variant, Replay, dict[str, float]]] = []
    for variant_id, replay in rows.items():
        variant = variants[variant_id]
        figures = {name: float(v) for name in LESS if isinstance(v := replay.measured.get(name), int | float)}
        size = variant.measured.get("packed_bytes", variant.measured.get("bytes_stored"))
        if isinstance(size, int | float) and size:
            figures["bytes_stored"] = float(size)
        if replay.id in means:
            figures["quality"] = means[replay.id]
        found.append((variant, replay, figures))
    best = frontier([figures for _, _, figures in found])
    standing = [
        Standing(variant.name, replay.id, common[0] if common else "", figures, is_best)
        for (variant, replay, figures), is_best in zip(found, best, strict=True)
    ]
    return sorted(standing, key=lambda one: -one.figures.get("quality", -1.0))


def _scorers(rows: Mapping[int, Replay]) -> list[str]:
    """Scorers in the order of whichever replay has fewest of them."""
    return min((row.scorers for row in rows.values()), key=len, default=[])


def _means(session: Session, replays: Sequence[int], evaluator: str) -> dict[int, float]:
    scored = select(Answer.replay_id, func.avg(Score.value)).join(Score, col(Score.answer_id) == col(Answer.id))
    of_replays = scored.where(col(Answer.replay_id).in_(replays), Score.evaluator == evaluator)
    rows = session.exec(of_replays.group_by(col(Answer.replay_id)))
    return {key: float(mean) for key, mean in rows if mean is not None}


def frontier(points: Sequence[Mapping[str, float]]) -> list[bool]:
    """Per point, whether no other is at least as good in all figures that both have, and better in one.

    A point without quality is on no frontier.

    >>> frontier([{"quality": 1, "latency_ms": 9}, {"quality": 1, "latency_ms": 5}, {"quality": 0.5, "latency_ms": 1}])
    [False, True, True]
    """

    def beats(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
        gains = [one[name] - other[name] for name in MORE if name in one and name in other]
        gains += [other[name] - one[name] for name in LESS if name in one and name in other]
        return bool(gains) and min(gains) >= 0 and max(gains) > 0

    return ["quality" in p and not any(beats(q, p) for q in points if "quality" in q) for p in points]


def shown(one: Standing) -> dict[str, Any]:
    """A standing as a row of a table or of JSON."""
    return {
        "variant": one.variant, "frontier": one.is_best, "evaluator": one.evaluator, **one.figures,
        "replay": one.replay,
    }  # fmt: skip
