"""Lists of one session or user are as if all calls were looked at, wherever its calls lie; and SQLite searches."""

import random
from typing import Any

import pytest
from sqlalchemy import text
from sqlmodel import col, select

from collector.retention import erase_user
from dashboard import newest
from dashboard.api.lists import LISTS, keyset_page, stretches_of
from driftline.moment import now_us
from driftline.store.engine import reading, writing
from driftline.store.generations import feedback_with_calls, of_trace, with_ids, with_keys
from driftline.store.hashing import sample_key
from driftline.store.projects import ensure_project
from driftline.store.tables import Feedback, Generation, Variant

STEP = 1_700  # between keys, so that five calls lie in a part


@pytest.fixture
def project(database: str) -> int:
    """A project with calls of four users in many parts, that began in another order than they came."""
    drawn = random.Random(5)
    with writing() as session:
        project = ensure_project(session).id
        session.add(variant := Variant(project_id=project, name="v", content_hash="h", created_at=now_us()))
        session.flush()
        for n in range(300):
            user = "many" if n % 4 else drawn.choice(["few", "other", None])
            session.add(Generation(
                seq=1 + n * STEP, project_id=project, id=f"c{n}", started_at=1_000 + n + drawn.randrange(-40, 40),
                received_at=n, variant_id=variant.id, sample_key=sample_key(f"c{n}"), tags={}, user_id=user,
                session_id=f"s{n // 7}", status="error" if n % 3 == 0 else "ok",
            ))  # fmt: skip
    return project


def listed(project: int, limit: int, named: newest.Named, *conditions: Any, until: int | None = None) -> list[int]:
    """All pages of a list, one after the other."""
    column, name = named
    found: list[int] = []
    cursor = None
    with reading() as session:
        where = (col(getattr(Generation, column)) == name, *conditions)
        if until is not None:
            where = (*where, col(Generation.started_at) < until)
        while True:
            look = stretches_of(session, project, limit, until=until, named=named)
            rows, cursor = keyset_page(session, LISTS["generations"], project, limit, cursor, where, look)
            assert len(rows) == limit or cursor is None
            found += [row.seq for row in rows]
            if cursor is None:
                return found


def all_of(column: str, name: str, *conditions: Any) -> list[int]:
    with reading() as session:
        calls = session.exec(select(Generation).where(getattr(Generation, column) == name, *conditions)).all()
    return [call.seq for call in sorted(calls, key=lambda call: (call.started_at, call.seq), reverse=True)]


@pytest.mark.parametrize("limit", [1, 3, 50, 1000])
@pytest.mark.parametrize("named", [("user_id", "many"), ("user_id", "few"), ("session_id", "s3"), ("user_id", "none")])
def test_pages_are_whole_and_in_order(project: int, limit: int, named: newest.Named) -> None:
    assert listed(project, limit, named) == all_of(*named)
    failed = col(Generation.status) == "error"
    assert listed(project, limit, named, failed) == all_of(*named, failed)
    earlier = col(Generation.started_at) < 1_150
    assert listed(project, limit, named, until=1_150) == all_of(*named, earlier)


def test_few_parts_are_read_for_the_newest_of_many(project: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with reading() as session:
        if not newest.is_in_parts(session):
            pytest.skip("PostgreSQL has no parts of this kind")
        statements: list[str] = []
        driver: Any = session.connection().connection.driver_connection
        driver.set_trace_callback(statements.append)
        first = next(newest.newest_named(session, project, ("user_id", "many"), 5, None))
        driver.set_trace_callback(None)
        assert len(session.exec(select(Generation.seq).where(first)).all()) == 5
    assert len([one for one in statements if "LIMIT" in one]) < 20, "of 63 parts those with the newest"


def plan_of(session: Any, query: Any) -> str:
    connection = session.connection()
    compiled = query.compile(connection, compile_kwargs={"literal_binds": True})
    return " | ".join(row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}"))


def test_sqlite_searches_where_it_could_look_at_all(project: int) -> None:
    with reading() as session:
        if not newest.is_in_parts(session):
            pytest.skip("of SQLite")
        connection = session.connection()
        whole = select(Generation).where(Generation.project_id == project)
        latest = whole.order_by(col(Generation.started_at).desc(), col(Generation.seq).desc()).limit(101)
        by_key = "SEARCH generation USING INTEGER PRIMARY KEY (rowid=?)"
        assert by_key in plan_of(session, latest.where(with_ids(connection, project, ["c1", "c2"])))
        assert by_key in plan_of(session, latest.where(with_keys(connection, range(1, 900))))
        assert by_key in plan_of(session, whole.where(of_trace(connection, project, "0" * 32)))
        of_session = whole.where(col(Generation.session_id) == "s1")
        assert "ix_generation_session_part" in plan_of(session, of_session.order_by(col(Generation.started_at)))
        of_users = select(Generation.seq).where(
            Generation.project_id == project, col(Generation.user_id).in_(["few", "x"])
        )
        assert "ix_generation_user_part" in plan_of(session, of_users)
        told = select(Feedback.seq, Generation.id).select_from(feedback_with_calls(connection)[0])
        plan = plan_of(session, told.where(Feedback.seq > 3).order_by(Feedback.seq).limit(9))
        assert plan.startswith("SEARCH feedback USING INTEGER PRIMARY KEY (rowid>?)"), plan
        assert by_key in plan
        assert "PRIMARY KEY (hash=?)" in plan
        assert "ix_generation_project_started" in plan_of(session, latest)
        since = whole.where(col(Generation.route) == "r", col(Generation.started_at) > 7)
        sampled = since.order_by(col(Generation.sample_key)).limit(9)
        assert "ix_generation_project_started (project_id=? AND started_at>?)" in plan_of(session, sampled)
        of_route = whole.where(col(Generation.route) == "r", col(Generation.seq) > 7).order_by(col(Generation.seq))
        assert "ix_generation_route_seq" in plan_of(session, of_route)


def test_feedback_is_joined_with_the_call_of_its_id(project: int) -> None:
    with writing() as session:
        other = ensure_project(session, "other").id
        for one, (where, about) in enumerate([(project, "c5"), (other, "c6"), (project, "gone"), (project, "c7")]):
            session.add(Feedback(
                project_id=where, id=f"f{one}", generation_id=about, name="stars", value=1, received_at=one
            ))  # fmt: skip
    with reading() as session:
        told, call = feedback_with_calls(session.connection())
        joined = select(Feedback.id, call.id).select_from(told)
        assert sorted(session.exec(joined).all()) == [("f0", "c5"), ("f3", "c7")]


def test_feedback_leads_to_its_calls_before_postgres_knows_its_tables(project: int) -> None:
    with reading() as session:
        if newest.is_in_parts(session):
            pytest.skip("SQLite is told by its statistics")
        told, call = feedback_with_calls(session.connection())
        of_route = select(Feedback.seq, call.input).select_from(told).where(call.project_id == 1, call.route == "r")
        read = of_route.where(Feedback.seq > 3).order_by(col(Feedback.seq)).limit(9)
        asked = read.compile(session.connection(), compile_kwargs={"literal_binds": True})
        plan = [line for (line,) in session.execute(text(f"EXPLAIN {asked}"))]
    scans = [line.strip(" ->").partition("  (")[0] for line in plan if "Scan" in line and "Subquery" not in line]
    order = [next(table for table in ("feedback", "generation_key", "generation") if table in scan) for scan in scans]
    assert order[0] == "feedback", plan
    assert "generation" not in order[: order.index("generation_key")], plan
    assert not any("route" in line and "Cond" in line for line in plan), plan


def test_erasing_a_user_finds_every_part_and_leaves_no_entry(project: int) -> None:
    few = len(all_of("user_id", "few"))
    assert erase_user(project, "few", step=7) == few > 7
    with reading() as session:
        entries = session.execute(text("SELECT count(*) FROM generation_key")).scalar()
    assert entries == 300 - few
