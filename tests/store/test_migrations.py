"""Whatever an older version left in a database is there after the upgrade, on SQLite and on PostgreSQL."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import (
    JSON,
    Boolean,
    Connection,
    Engine,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    event,
    inspect,
    select,
    text,
)
from sqlalchemy.engine import make_url

from collector.days import open_day
from driftline.acts.rules import complete
from driftline.errors import StoreUnavailable
from driftline.store.days import BEFORE, is_part, last_key, parts
from driftline.store.engine import open_engine
from driftline.store.ids import id_hash
from driftline.store.tables import tables_of
from driftline.store.upgrade import configuration, newest, revision, upgrade

pytestmark = pytest.mark.filterwarnings("ignore:.*expression-based index")  # they are compared by hand
SCRIPTS = ScriptDirectory.from_config(configuration(None))  # type: ignore[arg-type]
REVISIONS = [script.revision for script in reversed(list(SCRIPTS.walk_revisions()))]
ROWS = 2  # a table


def upgrade_to(engine: Engine, wanted: str) -> None:
    with engine.connect() as connection:
        config = configuration(engine)
        config.attributes["connection"] = connection
        command.upgrade(config, wanted)
        connection.commit()


def reflected(connection: Connection) -> MetaData:
    found = MetaData()
    found.reflect(connection)
    return found


def value_of(column: Any, n: int) -> Any:
    """Something that fits the column, another for every n; keys count from 1, so references are simply n + 1."""
    for key in column.foreign_keys:
        if key.column.table is column.table:
            return None if n == 0 else 1
    match column.type:
        case Boolean():
            return n % 2 == 0
        case Integer():
            return n + 1
        case Float():
            return n + 0.5
        case JSON():
            return {"n": n, "texts": ["ä", "it's"]}
        case LargeBinary():
            return bytes([n, 0, 255])
    words = f"{column.name} {n} – it's"
    return words[-column.type.length :] if getattr(column.type, "length", None) else words


def fill(connection: Connection) -> dict[str, list[dict[str, Any]]]:
    """Rows in every table there is, columns that may be empty filled too; gives what was written."""
    written = {}
    for table in reflected(connection).sorted_tables:
        if table.name != "alembic_version" and not is_part(table.name):
            rows = [{column.name: value_of(column, n) for column in table.columns} for n in range(ROWS)]
            connection.execute(table.insert(), rows)
            written[table.name] = rows
    connection.commit()
    return written


def kept(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same columns of the same rows as they are now."""
    names = [name for name in rows[0] if name in table.columns]
    key = next(iter(table.primary_key.columns))
    found = connection.execute(select(*(table.columns[name] for name in names)).order_by(key)).mappings()
    return [dict(row) for row in found]


def test_an_empty_database_gets_the_tables_that_the_code_declares(bare: Engine) -> None:
    head = upgrade(bare)
    assert head == SCRIPTS.get_current_head() == revision(bare)
    with bare.connect() as connection:
        declared = {table.name for table in tables_of(bare.dialect.name)}
        found = {name for name in reflected(connection).tables if not is_part(name)}
        assert found == {*declared, "alembic_version"}
        if bare.dialect.name == "sqlite":
            made = connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'index' AND sql LIKE '%>>%'"))
            assert set(made.scalars()) == {"ix_generation_session_part", "ix_generation_user_part"}
        config = configuration(bare)
        config.attributes["connection"] = connection
        command.check(config)
    assert upgrade(bare) == head


@pytest.mark.parametrize("past", REVISIONS[:-1])
def test_every_row_of_every_past_revision_survives_the_upgrade(bare: Engine, past: str) -> None:
    upgrade_to(bare, past)
    with bare.connect() as connection:
        written = fill(connection)
    assert len(written) >= 30
    upgrade(bare)
    with bare.connect() as connection:
        now = reflected(connection)
        for name, rows in written.items():
            expected = [{key: value for key, value in row.items() if key in now.tables[name].columns} for row in rows]
            assert kept(connection, now.tables[name], rows) == expected, name
        if bare.dialect.name == "sqlite":
            assert connection.execute(text("PRAGMA foreign_key_check")).all() == []
            assert connection.execute(text("PRAGMA integrity_check")).scalar() == "ok"
        config = configuration(bare)
        config.attributes["connection"] = connection
        command.check(config)


def test_a_rule_on_a_lost_benefit_goes_on_under_the_one_word_for_it(bare: Engine) -> None:
    upgrade_to(bare, "0011")
    with bare.connect() as connection:
        fill(connection)
        tables = reflected(connection).tables
        rule, silence, inhibition = tables["alert_rule"], tables["silence"], tables["inhibition"]
        connection.execute(rule.update().where(rule.c.id == 1).values({"on": "benefit", "condition": {}}))
        connection.execute(rule.update().where(rule.c.id == 2).values({"matchers": {"on": "!=benefit", "route": "a"}}))
        connection.execute(silence.update().where(silence.c.id == 1).values(matchers={"on": "benefit"}))
        connection.execute(inhibition.update().where(inhibition.c.id == 1).values(target={"on": "=benefit"}))
        connection.commit()
    upgrade(bare)
    with bare.connect() as connection:
        kind, condition = connection.execute(select(rule.c.on, rule.c.condition).where(rule.c.id == 1)).one()
        assert (kind, condition) == ("benefit_erosion", {"benefit": 0.1})
        assert complete(kind, condition) == condition, "it is one that could be made today"
        matchers = connection.scalar(select(rule.c.matchers).where(rule.c.id == 2))
        assert matchers == {"on": "!=benefit_erosion", "route": "a"}
        assert connection.scalar(select(silence.c.matchers).where(silence.c.id == 1)) == {"on": "benefit_erosion"}
        assert connection.scalar(select(inhibition.c.target).where(inhibition.c.id == 1)) == {"on": "=benefit_erosion"}


def downgrade_to(engine: Engine, wanted: str) -> None:
    with engine.connect() as connection:
        config = configuration(engine)
        config.attributes["connection"] = connection
        command.downgrade(config, wanted)
        connection.commit()


@pytest.mark.postgres
def test_calls_become_the_oldest_partition_without_being_copied_and_back(make_postgres: Callable[[], str]) -> None:
    engine = open_engine(make_postgres())
    upgrade_to(engine, "0015")
    with engine.connect() as connection:
        written = fill(connection)["generation"]
        connection.execute(text("SELECT setval('generation_seq_seq', 2)"))
        where = connection.execute(text("SELECT pg_relation_filenode('generation')")).scalar_one()
        connection.commit()
    upgrade(engine)
    with engine.begin() as connection:
        whole = reflected(connection).tables["generation"]
        assert kept(connection, whole, written) == written
        assert connection.execute(text("SELECT pg_relation_filenode('generation_before')")).scalar_one() == where
        entries = connection.execute(text("SELECT hash, seq FROM generation_key ORDER BY seq")).all()
        assert [tuple(entry) for entry in entries] == [
            (id_hash(row["project_id"], row["id"]), row["seq"]) for row in written
        ]
        indexes = "SELECT count(*) FROM pg_index WHERE indrelid = :table ::regclass AND indisvalid"
        counted = [connection.execute(text(indexes), {"table": part}).scalar() for part in ("generation", BEFORE)]
        assert counted == [5, 5]
    open_day(engine)
    with engine.begin() as connection:
        row = written[0] | {"id": "of today", "seq": last_key(connection)}
        connection.execute(whole.insert(), [row])
        named = [part.name for part in parts(connection)]
        assert [connection.execute(text(indexes), {"table": part}).scalar() for part in named] == [5] * 3
    downgrade_to(engine, "0015")
    with engine.connect() as connection:
        whole = reflected(connection).tables["generation"]
        assert kept(connection, whole, written) == [*written, row]
        assert not [name for name in reflected(connection).tables if is_part(name)]
        assert connection.execute(text("SELECT pg_get_serial_sequence('generation', 'seq')")).scalar()
    upgrade(engine)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM generation_before")).scalar() == ROWS + 1
    engine.dispose()


def test_after_the_upgrade_references_are_kept_again(bare: Engine) -> None:
    upgrade(bare)
    if bare.dialect.name == "sqlite":
        with bare.connect() as connection:
            assert connection.execute(text("PRAGMA foreign_keys")).scalar() == 1


def test_a_key_of_a_generation_is_never_given_twice(bare: Engine) -> None:
    upgrade_to(bare, REVISIONS[0])
    with bare.connect() as connection:
        fill(connection)
    upgrade(bare)
    with bare.begin() as connection:
        generation = reflected(connection).tables["generation"]
        (last,) = connection.execute(select(generation).order_by(generation.c.seq.desc()).limit(1)).mappings()
        connection.execute(text("DELETE FROM score"))
        connection.execute(generation.delete().where(generation.c.seq == last["seq"]))
        if bare.dialect.name == "postgresql":
            connection.execute(text("SELECT setval(pg_get_serial_sequence('generation', 'seq'), 2)"))
        again = {key: value for key, value in last.items() if key != "seq"}
        given = connection.execute(generation.insert().values(again).returning(generation.c.seq)).scalar_one()
    assert given > last["seq"]


def test_a_database_of_a_newer_version_is_refused_in_one_sentence_and_left_alone(bare: Engine) -> None:
    upgrade(bare)
    with bare.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreUnavailable, match=r"is at revision 9999, which .* Upgrade Driftline"):
        upgrade(bare)
    assert revision(bare) == "9999"


def test_processes_that_start_together_upgrade_once(bare: Engine, tmp_path: Any) -> None:
    url = bare.url.render_as_string(hide_password=False)
    start = [sys.executable, "-m", "driftline", "db", "upgrade"]
    environment = {"DRIFTLINE_DATABASE_URL": url, "DRIFTLINE_DATA_DIR": str(tmp_path), "PATH": "/usr/bin:/bin"}
    started = [subprocess.Popen(start, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    complaints = [process.communicate(timeout=60)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], complaints
    assert revision(bare) == SCRIPTS.get_current_head()


def test_an_upgrade_that_fails_half_way_leaves_the_database_as_it_was(bare: Engine) -> None:
    half_way = REVISIONS[len(REVISIONS) // 2]

    def fail(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        if statement.startswith("UPDATE alembic_version") and half_way in statement:
            raise RuntimeError("half-way")

    event.listen(bare, "before_cursor_execute", fail)
    with pytest.raises(RuntimeError, match="half-way"):
        upgrade(bare)
    event.remove(bare, "before_cursor_execute", fail)
    assert inspect(bare).get_table_names() == []
    assert upgrade(bare) == newest()


def test_revisions_form_one_line(tmp_path: Any) -> None:
    assert SCRIPTS.get_heads() == [newest()]
    assert sorted(REVISIONS) == REVISIONS


def test_a_password_is_in_no_sentence(monkeypatch: pytest.MonkeyPatch, forget_settings: Any) -> None:
    monkeypatch.setenv("DRIFTLINE_DATABASE_URL", "postgresql://ann:hush@127.0.0.1:9/x")
    forget_settings()
    with pytest.raises(StoreUnavailable) as refused:
        upgrade()
    assert "hush" not in str(refused.value)
    assert make_url("postgresql+psycopg://ann:***@127.0.0.1:9/x").host in str(refused.value)
