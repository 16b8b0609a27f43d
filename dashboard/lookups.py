"""Names and small facts that several pages need, each read for the rows at hand alone."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlmodel import Session, col, func, select

from driftline.errors import NotFound
from driftline.store.tables import (
    Answer,
    Comparison,
    GoldenSet,
    GoldenVersion,
    Monitor,
    Replay,
    Route,
    Score,
    Variant,
)


@dataclass(frozen=True, slots=True)
class Judged:
    """A comparison with the names of what it compares."""

    comparison: Comparison
    candidate: str
    baseline: str
    golden: str


def variant_names(session: Session, ids: Iterable[int | None]) -> dict[int, str]:
    """Names of variants by key."""
    wanted = {key for key in ids if key is not None}
    if not wanted:
        return {}
    return dict(session.exec(select(Variant.id, Variant.name).where(col(Variant.id).in_(wanted))).all())


def golden_names(session: Session, version_ids: Iterable[int]) -> dict[int, str]:
    """NAME@NUMBER of golden versions by key."""
    rows = session.exec(
        select(GoldenVersion.id, GoldenSet.name, GoldenVersion.number)
        .join(GoldenSet, col(GoldenSet.id) == GoldenVersion.golden_set_id)
        .where(col(GoldenVersion.id).in_(set(version_ids)))
    )
    return {key: f"{name}@{number}" for key, name, number in rows}


def named_variant(session: Session, project_id: int, name: str) -> Variant:
    """A variant of the project.

    Raises:
        NotFound: Lists some that there are.
    """
    of_project = select(Variant).where(Variant.project_id == project_id)
    row = session.exec(of_project.where(Variant.name == name)).first()
    if row is None:
        raise NotFound("variant", name, [known.name for known in session.exec(of_project.limit(20))])
    return row


def judged(session: Session, comparisons: Sequence[Comparison]) -> list[Judged]:
    """Comparisons with their names."""
    if not comparisons:
        return []
    replay_ids = {key for row in comparisons for key in (row.candidate_replay_id, row.baseline_replay_id)}
    replays = {row.id: row for row in session.exec(select(Replay).where(col(Replay.id).in_(replay_ids)))}
    names = variant_names(session, (row.variant_id for row in replays.values()))
    goldens = golden_names(session, (row.golden_version_id for row in replays.values()))
    return [
        Judged(
            row,
            names[replays[row.candidate_replay_id].variant_id],
            names[replays[row.baseline_replay_id].variant_id],
            goldens[replays[row.candidate_replay_id].golden_version_id],
        )
        for row in comparisons
    ]


def newest_verdicts(session: Session, project_id: int, variant_ids: Iterable[int]) -> dict[int, list[Judged]]:
    """Per variant the comparisons of its newest compared replay, one per evaluator, headline first."""
    newest = (
        select(func.max(Comparison.id))
        .join(Replay, col(Replay.id) == Comparison.candidate_replay_id)
        .where(Comparison.project_id == project_id, col(Replay.variant_id).in_(set(variant_ids)))
        .group_by(col(Replay.variant_id), col(Comparison.evaluator))
    )
    rows = session.exec(select(Comparison).where(col(Comparison.id).in_(newest)).order_by(col(Comparison.id))).all()
    if not rows:
        return {}
    of_replay = dict(
        session.exec(
            select(Replay.id, Replay.variant_id).where(col(Replay.id).in_({r.candidate_replay_id for r in rows}))
        ).all()
    )
    found: dict[int, list[Judged]] = {}
    for one in judged(session, rows):
        found.setdefault(of_replay[one.comparison.candidate_replay_id], []).append(one)
    for several in found.values():
        last = max(one.comparison.candidate_replay_id for one in several)
        several[:] = [one for one in several if one.comparison.candidate_replay_id == last]
        several.sort(key=lambda one: headline_rank(one.comparison.evaluator))
    return found


HEADLINES = ("reference_likelihood", "baseline_likelihood")  # graded scores that small models can carry come first


def headline_rank(evaluator: str) -> tuple[int, str]:
    """Sorts evaluators: graded likelihoods first, then by name."""
    return (HEADLINES.index(evaluator) if evaluator in HEADLINES else len(HEADLINES), evaluator)


def replay_means(session: Session, replay_ids: Iterable[int]) -> dict[int, dict[str, tuple[float, int]]]:
    """Mean score and how many scored answers, by replay and evaluator."""
    rows = session.exec(
        select(Answer.replay_id, Score.evaluator, func.avg(Score.value), func.count(col(Score.value)))
        .join(Score, col(Score.answer_id) == Answer.id)
        .where(col(Answer.replay_id).in_(set(replay_ids)))
        .group_by(col(Answer.replay_id), col(Score.evaluator))
    )
    found: dict[int, dict[str, tuple[float, int]]] = {}
    for replay_id, evaluator, mean, n in rows:
        if mean is not None:
            found.setdefault(replay_id, {})[evaluator] = (float(mean), n)
    return found


def quality_source(session: Session, project_id: int) -> str | None:
    """The evaluator by which the project watches its traffic's quality, None where nothing does."""
    watched = select(Monitor.source).where(Monitor.project_id == project_id, Monitor.signal == "quality")
    return session.exec(watched.order_by(col(Monitor.id)).limit(1)).first()


def roles(session: Session, project_id: int) -> dict[int, list[str]]:
    """What routes use each variant for: "production of default", "baseline of default", "10 % of default"."""
    found: dict[int, list[str]] = {}
    for route in session.exec(select(Route).where(Route.project_id == project_id).order_by(Route.name)):
        for key, role in (
            (route.production_variant_id, f"production of {route.name}"),
            (route.baseline_variant_id, f"baseline of {route.name}"),
            (route.canary_variant_id, f"canary of {route.name}, {route.canary_share:.0%}"),
        ):
            if key is not None:
                found.setdefault(key, []).append(role)
    return found
