"""Opening the store: what its sessions promise, and what an operator is told when it cannot be used."""

import secrets
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.engine import make_url
from sqlmodel import func, select

from driftline.errors import BadInput, StoreUnavailable
from driftline.store.engine import open_engine, reading, writing
from driftline.store.tables import Project, Variant
from driftline.store.upgrade import upgrade


@pytest.mark.postgres
@pytest.mark.parametrize("withheld", ["CREATE", "ALL"])
def test_a_database_user_who_may_not_make_tables_is_told_what_is_missing(
    withheld: str, make_postgres: Callable[[], str], execute_on: Any
) -> None:
    url, user = make_postgres(), f"driftline_poor_{secrets.token_hex(4)}"
    execute_on(url, f"REVOKE {withheld} ON SCHEMA public FROM PUBLIC; CREATE ROLE {user}")
    engine = open_engine(make_url(url).update_query_dict({"options": f"-c role={user}"}).render_as_string(False))
    try:
        with pytest.raises(StoreUnavailable, match="Grant it to the database's user"):
            upgrade(engine)
    finally:
        engine.dispose()
        execute_on(url, f"DROP ROLE {user}")


def test_a_value_that_no_database_holds_is_refused_in_a_sentence(project: Project) -> None:
    for key in (10**30, -(10**30)):
        with writing() as session, pytest.raises(BadInput, match="cannot be stored"):
            session.exec(select(Variant).where(Variant.id == key)).first()
    with writing() as session, pytest.raises(BadInput, match="cannot be stored"):
        session.exec(select(Variant).where(Variant.name == "\ud800")).first()


def test_a_text_that_postgresql_refuses_is_refused_in_a_sentence(project: Project, database: str) -> None:
    if database != "postgresql":
        pytest.skip("SQLite keeps such texts")

    def declare(name: str) -> None:
        with writing() as session:
            session.add(Variant(project_id=project.id, name=name, content_hash="", created_at=0))

    for name in ("a\x00b", "n" * 200):
        with pytest.raises(BadInput, match="cannot be stored"):
            declare(name)


def test_a_session_for_reads_sees_one_state_whatever_others_commit(project: Project) -> None:
    with reading() as session:
        before = session.exec(select(func.count()).select_from(Variant)).one()
        with writing() as other:
            other.add(Variant(project_id=project.id, name="newer", spec={}, content_hash="0" * 64, created_at=1))
        assert session.exec(select(func.count()).select_from(Variant)).one() == before
    with reading() as session:
        assert session.exec(select(func.count()).select_from(Variant)).one() == before + 1
