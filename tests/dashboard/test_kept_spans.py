"""Traffic that is kept between two looks: the same as if every row had been read anew, whatever happens meanwhile."""

import random
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
from datasketches import kll_floats_sketch
from sqlalchemy import event
from sqlmodel import Session, select

from collector.retention import fold_rollups
from collector.rollups import sketch
from dashboard.kept_spans import KeptSpans, marks
from dashboard.measures import SUMMED, Traffic, traffic
from driftline.moment import DAY, HOUR, MINUTE, now_us
from driftline.store.engine import engine, reading, writing
from driftline.store.projects import ensure_project
from driftline.store.tables import Rollup, Variant

QUARTER = 15 * MINUTE
NOW = 20_000 * DAY + 7 * HOUR + 23 * MINUTE


@pytest.fixture
def project(database: str) -> int:
    with writing() as session:
        made = ensure_project(session)
        for name in ("v", "w"):
            session.add(Variant(
                project_id=made.id, name=name, content_hash=name, spec={}, state="shadow", build_state="built",
                measured={}, created_at=0,
            ))  # fmt: skip
        return int(made.id)


def add(session: Session, project: int, minute: int, variant: int = 1, route: str = "chat", **more: Any) -> None:
    """A delta, as a commit adds one, of calls that took 1, 2, 3, … ms."""
    n = more.pop("n", 1)
    several = [float(k + 1) for k in range(n)]
    session.add(Rollup(
        project_id=project, variant_id=variant, route=route, minute=minute - minute % MINUTE, n=n,
        input_tokens=7 * n, cost_nano=11 * n, latency_n=n, latency_sum_ms=sum(several), weight_sum=float(n),
        latency_sketch=sketch(several), ttft_sketch=sketch([0.5]), **more,
    ))  # fmt: skip


def plain(session: Session, project: int, since: int, until: int, step: int, **only: Any) -> dict[Any, dict[str, Any]]:
    """The same, added up row by row."""
    found: dict[Any, dict[str, Any]] = defaultdict(lambda: dict.fromkeys([*SUMMED, "sketched"], 0))
    for row in session.exec(select(Rollup).where(Rollup.project_id == project)):
        if since <= row.minute < until and all(getattr(row, name) == value for name, value in only.items()):
            sums = found[row.minute - row.minute % step, row.variant_id]
            for name in SUMMED:
                sums[name] += getattr(row, name)
            sums["sketched"] += kll_floats_sketch.deserialize(row.latency_sketch).n
    return dict(sorted(found.items()))


def seen(points: list[Traffic]) -> dict[Any, dict[str, Any]]:
    assert [(one.at, one.variant_id) for one in points] == sorted((one.at, one.variant_id) for one in points)
    return {(one.at, one.variant_id): {name: getattr(one, name) for name in [*SUMMED, "sketched"]} for one in points}


@pytest.mark.parametrize("seed", range(6))
def test_what_is_kept_is_what_the_rows_say(project: int, seed: int) -> None:
    draw = random.Random(seed)
    questions = [
        (since, until, step, only)
        for since, until in ((NOW - DAY, NOW), (NOW - 5 * DAY - 17 * MINUTE, NOW - 3 * MINUTE), (NOW - HOUR, NOW + DAY))
        for step in (MINUTE, QUARTER, 2 * HOUR, DAY)
        if (until - since) // step < 500
        for only in ({}, {"variant_id": 2}, {"route": "search"})
    ]
    for _ in range(14):
        happens = draw.choice(("calls", "late calls", "fold", "fold", "nothing"))
        if happens in ("calls", "late calls"):
            with writing() as session:
                for _ in range(draw.randrange(1, 12)):
                    age = draw.randrange(90 * MINUTE) if happens == "calls" else draw.randrange(6 * DAY)
                    route, variant = draw.choice(("chat", "search")), draw.choice((1, 2))
                    add(session, project, NOW - age, variant, route, n=draw.randrange(1, 5))
        elif happens == "fold":
            fold_rollups(project, NOW - draw.choice((0, HOUR, DAY)), draw.choice((MINUTE, QUARTER, HOUR)))
        for since, until, step, only in draw.sample(questions, 8):
            with reading() as session:
                points = traffic(session, project, since, until, step, **only)
                assert seen(points) == plain(session, project, since, until, step, **only)
                assert all(point.p95_ms is not None and point.ttft_p50_ms == 0.5 for point in points)


@pytest.mark.parametrize("step", [QUARTER, HOUR])
def test_the_edges_of_a_window_are_exact(project: int, step: int) -> None:
    with writing() as session:
        for minute in range(NOW - 4 * HOUR, NOW, MINUTE):
            add(session, project, minute)
    for since in (NOW - 3 * HOUR, NOW - 3 * HOUR - NOW % step, NOW - 3 * HOUR - MINUTE):
        for until in (NOW - HOUR, NOW - HOUR - NOW % step, NOW - HOUR - NOW % step + MINUTE):
            for _ in range(2):
                with reading() as session:
                    points = traffic(session, project, since, until, step)
                    assert seen(points) == plain(session, project, since, until, step)
                    assert sum(point.n for point in points) == (until - since) // MINUTE


@pytest.fixture
def rows_read(project: int) -> Iterator[list[str]]:
    """The statements that read sums or sketches, since the list was last emptied."""
    told: list[str] = []

    @event.listens_for(engine(), "before_cursor_execute")
    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("SELECT") and ("sum(rollup.n)" in statement or "latency_sketch" in statement):
            told.append(statement)

    yield told
    event.remove(engine(), "before_cursor_execute", note)


def look(project: int, step: int = HOUR) -> list[Traffic]:
    with reading() as session:
        return traffic(session, project, NOW - DAY - NOW % HOUR, NOW - NOW % HOUR, step)


def test_spans_that_are_known_are_not_read_again(project: int, rows_read: list[str]) -> None:
    with writing() as session:
        for hour in range(1, 24):
            add(session, project, NOW - hour * HOUR, n=3)
    first = look(project)
    assert len(rows_read) == 2  # sums and sketches
    rows_read.clear()
    assert seen(look(project)) == seen(first)
    assert rows_read == []
    with writing() as session:
        add(session, project, NOW - 5 * HOUR)
    assert sum(point.n for point in look(project)) == 23 * 3 + 1
    assert len(rows_read) == 2


def test_spans_of_another_project_are_not_taken(project: int) -> None:
    with writing() as session:
        other = int(ensure_project(session, "other").id)
        add(session, project, NOW - 3 * HOUR, n=2)
        add(session, other, NOW - 3 * HOUR, n=5)
    assert [point.n for point in look(project)] == [2]
    assert [point.n for point in look(other)] == [5]


def test_the_number_of_a_row_that_was_folded_away_never_comes_again(project: int) -> None:
    at = NOW - 3 * HOUR
    with writing() as session:
        add(session, project, at, n=2)
        add(session, project, at, n=3)
    assert [point.n for point in look(project)] == [5]
    assert fold_rollups(project, NOW) == 1
    with writing() as session:
        add(session, project, at, n=1000)
    assert [point.n for point in look(project)] == [1005]
    with reading() as session:
        assert min(session.exec(select(Rollup.id))) > 2


def test_a_limit_leaves_out_the_newest_also_beside_what_is_kept(project: int) -> None:
    with writing() as session:
        for hour in range(2, 20):
            add(session, project, NOW - hour * HOUR)
    whole = look(project)
    with writing() as session:
        add(session, project, NOW - 19 * HOUR, variant=2)
        add(session, project, NOW - 4 * HOUR, variant=2)
    for limit in (1, 2, 3, 10, 18, 19, 20, 50):
        with reading() as session:
            told = traffic(session, project, NOW - DAY - NOW % HOUR, NOW - NOW % HOUR, HOUR, limit=limit)
            wanted = plain(session, project, NOW - DAY, NOW, HOUR)
        assert seen(told) == dict(list(wanted.items())[:limit])
    assert len(whole) == 18


def test_many_changed_spans_are_read_at_once(project: int, rows_read: list[str]) -> None:
    with writing() as session:
        for minute in range(NOW - 20 * HOUR, NOW - HOUR, QUARTER):
            add(session, project, minute)
    look(project, QUARTER)
    with writing() as session:
        for minute in range(NOW - 20 * HOUR, NOW - HOUR, 2 * QUARTER):
            add(session, project, minute)
    with reading() as session:
        wanted = plain(session, project, NOW - DAY, NOW, QUARTER)
    rows_read.clear()
    assert seen(look(project, QUARTER)) == wanted
    assert len(rows_read) == 2


def test_no_more_is_kept_than_said(project: int) -> None:
    kept: KeptSpans[int] = KeptSpans(most=10)
    wanted = {at: (1, at, at) for at in range(6)}
    with reading() as session:
        for question in ("a", "b", "c"):
            kept.keep(session, question, wanted, {at: [at] for at in wanted})
        assert kept.find(session, "a", wanted) == {}
        assert kept.find(session, "c", wanted) == {at: [at] for at in wanted}
        later = {at: (1, at, at) for at in range(3, 9)}
        kept.keep(session, "c", later, {at: [at] for at in range(6, 9)})
        assert kept.find(session, "c", later) == {at: [at] for at in later}
        kept.keep(session, "c", later, {at: [at] * 5 for at in later})
        assert kept.find(session, "c", later) == {}  # more than may be kept at all


def test_a_mark_says_when_a_span_has_changed(project: int) -> None:
    def marked() -> dict[int, Any]:
        with reading() as session:
            return marks(session, project, NOW - DAY, NOW, HOUR)

    with writing() as session:
        for age in (2 * HOUR, 2 * HOUR, 5 * HOUR):
            add(session, project, NOW - age)
    before = marked()
    with writing() as session:
        add(session, project, NOW - 2 * HOUR)
    after = marked()
    newer = (NOW - 2 * HOUR) // HOUR * HOUR
    assert before[newer] != after[newer]
    assert {at: mark for at, mark in before.items() if at != newer} == {
        at: mark for at, mark in after.items() if at != newer
    }
    assert fold_rollups(project, now_us()) > 0
    assert marked()[newer] != after[newer]
