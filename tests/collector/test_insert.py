"""Rows reach the table as they are, whatever form the database's own bulk insert takes."""

import pytest
from msgspec.structs import astuple
from sqlalchemy import delete, text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlmodel import Session, select

from collector.insert import COLUMNS, insert_generations, take_turn
from collector.rows import Row
from driftline.moment import now_us
from driftline.store.engine import engine, reading, writing
from driftline.store.projects import ensure_project
from driftline.store.tables import Generation, Project, Variant


def rows(project: int, variant: int) -> list[Row]:
    now = now_us()
    full = Row(
        project, "full", now, now, variant, "chat", "m", '[{"role":"user","content":"Tab\\tand \\\\N"}]',
        "a\tb\\N\r\nü€🙂" * 900, 262_144, 2_000_000_000, 0.1, 1e-9, 1_000_000_000, 0, 2**53, "error", "\\.", "s", "u",
        '{"a":"\\"q\\"","b":"{}"}', 0.25, 2**63 - 1, "v",
    )  # fmt: skip
    bare = Row(
        project, "bare", 1, now, variant, "default", None, None, None, 0, 0, None, None, None, None, None, "ok", None,
        None, None, "{}", 1.0, -(2**63), "v",
    )  # fmt: skip
    return [full, bare]


def rows_of_a_project(session: Session) -> list[Row]:
    project = ensure_project(session).id
    variant = Variant(project_id=project, name="v", content_hash="h", created_at=now_us())
    session.add(variant)
    session.flush()
    return rows(project, variant.id)


def test_every_column_comes_back_as_it_was_written(either_store):
    with writing() as session:
        sent = rows_of_a_project(session)
        connection = session.connection()
        take_turn(connection)
        assert insert_generations(connection, sent) == set()
    with reading() as session:
        found = {row.id: row for row in session.exec(select(Generation))}
        for row in sent:
            told = dict(zip(COLUMNS, astuple(row), strict=False)) | {"tags": None}
            assert {name: getattr(found[row.id], name) for name in COLUMNS} | {"tags": None} == told
        assert found["full"].tags == {"a": '"q"', "b": "{}"}
        if engine().dialect.name == "postgresql":
            assert (
                session.connection().execute(text("SELECT tags->>'a' FROM generation WHERE id = 'full'")).scalar()
                == '"q"'
            )


def test_a_taken_id_and_a_repeated_one_are_left_out_by_their_place(either_store):
    with writing() as session:
        connection = session.connection()
        take_turn(connection)
        first, second = rows_of_a_project(session)
        assert insert_generations(connection, [first]) == set()
        assert insert_generations(connection, [first, second, second, first]) == {0, 2, 3}


@pytest.mark.parametrize("gone", ["project_id", "variant_id"])
def test_calls_of_what_was_deleted_meanwhile_are_not_stored(either_store, gone):
    with writing() as session:
        sent = rows_of_a_project(session)
        setattr(sent[1], gone, 9_999)
        with pytest.raises(engine().dialect.dbapi.IntegrityError):
            insert_generations(session.connection(), sent)
        session.rollback()


@pytest.mark.parametrize("kind", [Project, Variant])
def test_what_calls_refer_to_is_not_deleted(either_store, kind):
    with writing() as session:
        insert_generations(session.connection(), rows_of_a_project(session))
    with pytest.raises(IntegrityError), writing() as session:
        session.connection().execute(delete(kind))
    with writing() as session:
        session.connection().execute(delete(Generation))
        session.connection().execute(delete(Variant))
    with reading() as session:
        assert session.exec(select(Variant)).all() == []


def test_who_deletes_waits_for_a_commit_under_way(postgres_store):
    with writing() as session:
        sent = rows_of_a_project(session)
    with writing() as writer:
        insert_generations(writer.connection(), sent)
        with writing() as session:
            session.connection().execute(text("SET LOCAL lock_timeout = '100ms'"))
            with pytest.raises(OperationalError, match="lock timeout"):
                session.connection().execute(delete(Variant))
            session.rollback()
    with pytest.raises(IntegrityError, match="calls refer to variant"), writing() as session:
        session.connection().execute(delete(Variant))
