"""How good traffic is by its scores: a bounded number of the newest, so that the cost does not grow with traffic."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from sqlmodel import Session, col, select

from driftline.store.generations import with_keys
from driftline.store.tables import Generation, Score

SAMPLE = 2000  # newest scored answers of a project that a page looks at


@dataclass(frozen=True, slots=True)
class Scored:
    """One scored answer of a variant; `at` is when it was asked for, microseconds."""

    variant_id: int
    at: int
    value: float


def newest_scores(session: Session, project_id: int, evaluator: str) -> list[Scored]:
    """The newest scored answers of a project's traffic, of all variants."""
    newest = (
        select(Score.generation_seq, Score.value)
        .where(Score.project_id == project_id, Score.evaluator == evaluator, col(Score.generation_seq).is_not(None))
        .where(col(Score.value).is_not(None))
        .order_by(col(Score.id).desc())
        .limit(SAMPLE)
    )
    scores = session.exec(newest).all()
    held = with_keys(session.connection(), [seq for seq, _ in scores if seq is not None])
    asked = select(Generation.seq, Generation.variant_id, Generation.started_at).where(held)
    calls = {seq: (variant_id, at) for seq, variant_id, at in session.exec(asked)}
    return [Scored(*calls[seq], value) for seq, value in scores if seq in calls and value is not None]


def means(scores: Iterable[Scored]) -> dict[int, tuple[float, int]]:
    """Mean and count by variant.

    >>> means([Scored(1, 0, 0.25), Scored(1, 9, 0.75)])
    {1: (0.5, 2)}
    """
    values: dict[int, list[float]] = defaultdict(list)
    for one in scores:
        values[one.variant_id].append(one.value)
    return {key: (sum(several) / len(several), len(several)) for key, several in values.items()}


def over_time(scores: Iterable[Scored], step: int) -> list[tuple[int, float, int]]:
    """Start, mean and count of every span of `step` microseconds that holds a score, oldest first.

    >>> over_time([Scored(1, 3, 0.5), Scored(1, 12, 1.0)], 10)
    [(0, 0.5, 1), (10, 1.0, 1)]
    """
    values: dict[int, list[float]] = defaultdict(list)
    for one in scores:
        values[one.at - one.at % step].append(one.value)
    return [(start, sum(several) / len(several), len(several)) for start, several in sorted(values.items())]
