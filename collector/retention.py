"""Forgetting: records beyond a project's age, and all records of one user. In small steps, so that nobody waits long.

Rollups hold counts and sketches and no text: they stay, and are folded together once their minute is past.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from datasketches import kll_floats_sketch
from sqlalchemy import ColumnElement, delete, select
from sqlmodel import Session

from collector.folding import fold
from collector.past_days import past_parts
from collector.redact import pseudonym
from collector.rollups import SKETCH_K
from driftline.moment import DAY, MINUTE, now_us
from driftline.store.days import parts
from driftline.store.engine import reading, writing
from driftline.store.generations import forget_ids
from driftline.store.tables import Feedback, Generation, MetricPoint, Rollup, Score, SpanMessage

STEP = 500  # generations deleted in one transaction
_MESSAGES_STAY = 2 * DAY  # how long a span may keep its message events waiting

_SUMS = (
    "n", "errors", "aborted", "input_tokens", "output_tokens", "cost_nano", "latency_n", "latency_sum_ms", "weight_sum",
)  # fmt: skip
_GROUP = ("project_id", "variant_id", "route")
_GENERATION = Generation.__table__  # type: ignore[attr-defined]
_HANGING_ON_IT = (Feedback.__table__, SpanMessage.__table__)  # type: ignore[attr-defined]
_ROLLUP = Rollup.__table__  # type: ignore[attr-defined]


def delete_generations(session: Session, project_id: int, seqs: Sequence[int]) -> None:
    """Deletes generations with their feedback, scores and waiting messages."""
    connection = session.connection()
    asked = select(_GENERATION.c.seq, _GENERATION.c.id).where(_GENERATION.c.seq.in_(seqs))
    calls = [(key, identity) for key, identity in connection.execute(asked)]
    ids = [identity for _, identity in calls]
    connection.execute(delete(Score).where(Score.generation_seq.in_(seqs)))  # type: ignore[union-attr]
    for table in _HANGING_ON_IT:
        connection.execute(delete(table).where(table.c.project_id == project_id, table.c.generation_id.in_(ids)))
    forget_ids(connection, project_id, calls)
    connection.execute(delete(Generation).where(_GENERATION.c.project_id == project_id, _GENERATION.c.seq.in_(seqs)))


def forget_older(project_id: int, before: int, step: int = STEP, most: int | None = None) -> int:
    """Deletes a project's generations that started before a moment (microseconds); how many they were.

    With `most` it stops after about so many, so that the caller can go on later.
    """
    deleted = 0
    of_project = select(_GENERATION.c.seq).where(
        _GENERATION.c.project_id == project_id, _GENERATION.c.started_at < before
    )
    with reading() as session:
        if session.execute(of_project.limit(1)).first() is None:
            return 0
    for limits in _stretches(now_us()):
        old = of_project.where(*limits).order_by(_GENERATION.c.started_at).limit(step)
        found = step
        while found == step:
            with writing() as session:
                seqs = list(session.execute(old).scalars())
                if seqs:
                    delete_generations(session, project_id, seqs)
            found = len(seqs)
            deleted += found
            if most is not None and deleted >= most:
                return deleted
    return deleted


def _stretches(now: int) -> list[tuple[ColumnElement[bool], ...]]:
    """The parts of the table that are gone through one by one, as conditions; without days that are dropped whole."""
    with reading() as session:
        connection = session.connection()
        if connection.dialect.name != "postgresql":
            return [()]
        whole = set(past_parts(connection, now))
        kept = [part for part in parts(connection) if part not in whole]
    return [(_GENERATION.c.seq >= part.first, _GENERATION.c.seq < part.end) for part in kept]


def erase_user(project_id: int, user_id: str, step: int = STEP) -> int:
    """Deletes everything that one user's calls left: prompts, answers, feedback, scores; how many calls they were.

    The user is found under the name as it was sent and under its stand-in. Golden items that were made of the user's
    traffic are not touched: they are versions of a test, and are edited by hand.
    """
    names = {user_id, pseudonym(user_id)}
    found = select(_GENERATION.c.seq).where(_GENERATION.c.project_id == project_id, _GENERATION.c.user_id.in_(names))
    with reading() as session:  # a user may have millions; deleting them must not hold others up
        seqs = list(session.execute(found).scalars())
    for start in range(0, len(seqs), step):
        with writing() as session:
            delete_generations(session, project_id, seqs[start : start + step])
    return len(seqs)


def forget_metrics(project_id: int, before: int) -> int:
    """Deletes a project's points of metrics before a moment (microseconds); how many they were."""
    with writing() as session:
        old = delete(MetricPoint).where(MetricPoint.project_id == project_id, MetricPoint.at < before)  # type: ignore[arg-type]
        return int(session.connection().execute(old).rowcount)


def forget_messages(now: int) -> int:
    """Deletes message events that have been joined, or whose span never came; how many they were."""
    with writing() as session:
        old = delete(SpanMessage).where(SpanMessage.at < now - _MESSAGES_STAY)  # type: ignore[arg-type]
        return int(session.connection().execute(old).rowcount)


def fold_rollups(project_id: int, before: int, span: int = MINUTE, groups: int = 50) -> int:
    """Folds the deltas before a moment into one row a variant, route and span; how many rows less.

    Commits append one delta each, so a busy minute has hundreds. Readers add up, and see the same sums before and
    after; quantiles may move within the sketch's error. With a longer `span` (microseconds, such as an hour) what is
    old takes less to read, at the price of its detail. `groups` are folded in one transaction.
    """
    return fold(_ROLLUP, _GROUP, _folded, project_id, before, span, groups)


def _folded(rows: Sequence[Any]) -> dict[str, Any]:
    made = {name: rows[0][name] for name in _GROUP} | {name: sum(row[name] for row in rows) for name in _SUMS}
    for name in ("latency_sketch", "ttft_sketch"):
        made[name] = _merged(row[name] for row in rows)
    return made


def _merged(sketches: Iterable[bytes | None]) -> bytes | None:
    whole = kll_floats_sketch(SKETCH_K)
    for sketch in sketches:
        if sketch is not None:
            whole.merge(kll_floats_sketch.deserialize(sketch))
    return None if whole.is_empty() else bytes(whole.serialize())
