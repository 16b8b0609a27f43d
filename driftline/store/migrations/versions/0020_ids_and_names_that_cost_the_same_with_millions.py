"""Ids, sessions and users of calls whose indexes cost the same with millions stored

Revision: 0020, after 0019. Ids are found by their hashes, see `driftline.store.ids`; on SQLite sessions and users are
in parts of some thousand calls each. SQLite's table of calls is written anew once, without its unique index on ids.
"""

import sqlalchemy as sa
from alembic import op
from sqlmodel.sql.sqltypes import AutoString

from driftline.store.ids import HASH_BITS, id_hash, levels

revision = '0020'
down_revision = '0019'
branch_labels = None
depends_on = None

CHUNK = 100_000
NAMES = {'session': 'session_id', 'user': 'user_id'}
PART = 'seq >> 13'
# SQLite's planner takes ten calls a project for granted and then prefers any order to the search that finds a call.
# Told what tables hold, as its ANALYZE would, it knows better; these are round numbers that stay.
HELD = [
    ('generation', 'ix_generation_project_started', '1000000 500000 1'),
    ('generation', 'ix_generation_route_seq', '1000000 500000 250000 1'),
    ('generation', 'ix_generation_session_part', '1000000 8192 8192 4 1'),
    ('generation', 'ix_generation_user_part', '1000000 8192 8192 20 1'),
    ('generation_key', 'generation_key', '1000000 1 1'),
]


def upgrade() -> None:
    is_sqlite = op.get_bind().dialect.name == 'sqlite'
    if not is_sqlite:
        op.drop_table('generation_key')
    op.create_table(
        'generation_key',
        sa.Column('hash', sa.BigInteger(), nullable=False),
        sa.Column('seq', sa.BigInteger(), nullable=False),
        *([sa.PrimaryKeyConstraint('hash', 'seq', name='pk_generation_key')] if is_sqlite else []),
        sqlite_with_rowid=False,
    )
    _fill_keys(is_sqlite)
    if is_sqlite:
        _write_anew(unique=False)
        for name, column in NAMES.items():
            op.execute(
                f'CREATE INDEX ix_generation_{name}_part ON generation ({PART}, project_id, {column}, started_at) '
                f'WHERE {column} IS NOT NULL'
            )
        _tell(HELD)
    else:
        op.create_primary_key('pk_generation_key', 'generation_key', ['hash', 'seq'])
    op.add_column('feedback', sa.Column('call_hash', sa.BigInteger(), nullable=False, server_default='0'))
    _fill_feedback()
    with op.batch_alter_table('feedback') as feedback:
        feedback.alter_column('call_hash', server_default=None)


def downgrade() -> None:
    with op.batch_alter_table('feedback') as feedback:
        feedback.drop_column('call_hash')
    op.drop_table('generation_key')
    if op.get_bind().dialect.name == 'sqlite':
        _tell([])
        for name in NAMES:
            op.execute(f'DROP INDEX ix_generation_{name}_part')
        _write_anew(unique=True)
        for name, column in NAMES.items():
            known = sa.text(f'{column} IS NOT NULL')
            op.create_index(
                f'ix_generation_{name}_started', 'generation', ['project_id', column, 'started_at'], sqlite_where=known
            )
        return
    op.create_table(
        'generation_key',
        sa.Column('project_id', sa.BigInteger(), nullable=False),
        sa.Column('id', AutoString(length=64), nullable=False),
        sa.Column('seq', sa.BigInteger(), nullable=False),
    )
    op.execute('INSERT INTO generation_key SELECT project_id, id, seq FROM generation')
    op.create_primary_key('pk_generation_key', 'generation_key', ['project_id', 'id'])


def _fill_keys(is_sqlite: bool) -> None:
    connection = op.get_bind()
    top = 0
    if is_sqlite:
        top = levels(connection.exec_driver_sql('SELECT coalesce(max(seq), 0) FROM generation').scalar_one()) - 1
    following = sa.text(
        'SELECT seq, project_id, id FROM generation WHERE seq > :last ORDER BY seq LIMIT :chunk'
    )
    last = -1
    while calls := connection.execute(following, {'last': last, 'chunk': CHUNK}).all():
        last = calls[-1].seq
        _write_keys(sorted(((top << HASH_BITS) + id_hash(call.project_id, call.id), call.seq) for call in calls))


def _write_keys(entries: list[tuple[int, int]]) -> None:
    driver = op.get_bind().connection.driver_connection
    if op.get_bind().dialect.name == 'sqlite':
        driver.executemany('INSERT INTO generation_key (hash, seq) VALUES (?, ?)', entries)
        return
    with driver.cursor() as cursor, cursor.copy('COPY generation_key (hash, seq) FROM STDIN') as copy:
        for entry in entries:
            copy.write_row(entry)


def _fill_feedback() -> None:
    connection = op.get_bind()
    following = sa.text(
        'SELECT seq, project_id, generation_id FROM feedback WHERE seq > :last ORDER BY seq LIMIT :chunk'
    )
    written = sa.text('UPDATE feedback SET call_hash = :hash WHERE seq = :seq')
    last = -1
    while told := connection.execute(following, {'last': last, 'chunk': CHUNK}).all():
        last = told[-1].seq
        connection.execute(written, [{'hash': id_hash(one.project_id, one.generation_id), 'seq': one.seq} for one in told])


def _write_anew(unique: bool) -> None:
    """Writes SQLite's table of calls anew, with or without its unique index on ids and the indexes of names."""
    connection = op.get_bind()
    given = "SELECT seq FROM sqlite_sequence WHERE name = 'generation'"
    last = connection.exec_driver_sql(given).scalar()
    if not unique:
        for name in NAMES:
            op.drop_index(f'ix_generation_{name}_started', 'generation')
    table_kwargs = {'sqlite_autoincrement': True}
    with op.batch_alter_table('generation', recreate='always', table_kwargs=table_kwargs) as generation:
        if unique:
            generation.create_unique_constraint('uq_generation_project_id_id', ['project_id', 'id'])
        else:
            generation.drop_constraint('uq_generation_project_id_id', type_='unique')
    if last is not None:  # a key is never given twice, also where the newest calls are gone
        connection.exec_driver_sql("DELETE FROM sqlite_sequence WHERE name = 'generation'")
        connection.exec_driver_sql("INSERT INTO sqlite_sequence (name, seq) VALUES ('generation', ?)", (last,))


def _tell(held: list[tuple[str, str, str]]) -> None:
    connection = op.get_bind()
    connection.exec_driver_sql('ANALYZE project')  # makes the table of statistics where there is none
    connection.exec_driver_sql("DELETE FROM sqlite_stat1 WHERE tbl IN ('project', 'generation', 'generation_key')")
    for told in held:
        connection.exec_driver_sql('INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES (?, ?, ?)', told)
    connection.exec_driver_sql('ANALYZE sqlite_schema')  # this connection reads them
