"""Calls are parted by the day on which they came, on PostgreSQL

Revision: 0017, after 0016. What is there becomes the oldest partition as it is.
"""

from alembic import op

revision = '0017'
down_revision = '0016'
branch_labels = None
depends_on = None

DAY_BITS = 36  # keys of one day; those below the first day's were given before days were counted
INDEXES = {
    'ix_generation_project_started': '(project_id, started_at)',
    'ix_generation_route_seq': '(project_id, route, seq)',
    'ix_generation_session_started': '(project_id, session_id, started_at) WHERE session_id IS NOT NULL',
    'ix_generation_user_started': '(project_id, user_id, started_at) WHERE user_id IS NOT NULL',
}
OF_SCORE = 'fk_score_generation_seq_generation'


def upgrade() -> None:
    if op.get_bind().dialect.name != 'postgresql':
        return
    op.drop_constraint(OF_SCORE, 'score', type_='foreignkey')
    op.rename_table('generation', 'generation_before')
    for name in ('pk_generation', *INDEXES):
        op.execute(f"ALTER INDEX {name} RENAME TO {name.replace('generation', 'generation_before')}")
    op.execute('CREATE TABLE generation (LIKE generation_before INCLUDING DEFAULTS) PARTITION BY RANGE (seq)')
    _complete('generation')
    op.execute('ALTER TABLE generation_before ALTER seq DROP DEFAULT')
    largest = op.get_bind().exec_driver_sql(
        'SELECT greatest(last_value, (SELECT max(seq) FROM generation_before)) FROM generation_seq_seq'
    ).scalar_one()  # of a day where the database had been downgraded
    end = (largest >> DAY_BITS) + 1 << DAY_BITS
    op.execute(f'ALTER TABLE generation ATTACH PARTITION generation_before FOR VALUES FROM (MINVALUE) TO ({end})')
    _refer()


def downgrade() -> None:
    if op.get_bind().dialect.name != 'postgresql':
        return
    op.drop_constraint(OF_SCORE, 'score', type_='foreignkey')
    op.execute('CREATE TABLE generation_whole (LIKE generation INCLUDING DEFAULTS)')
    op.execute('INSERT INTO generation_whole SELECT * FROM generation')
    op.execute('ALTER SEQUENCE generation_seq_seq OWNED BY generation_whole.seq')
    op.drop_table('generation')
    op.rename_table('generation_whole', 'generation')
    _complete('generation')
    _refer()


def _complete(table: str) -> None:
    op.execute(f'ALTER SEQUENCE generation_seq_seq OWNED BY {table}.seq')
    op.create_primary_key('pk_generation', table, ['seq'])
    op.create_foreign_key('fk_generation_project_id_project', table, 'project', ['project_id'], ['id'])
    op.create_foreign_key('fk_generation_variant_id_variant', table, 'variant', ['variant_id'], ['id'])
    for name, columns in INDEXES.items():
        op.execute(f'CREATE INDEX {name} ON {table} {columns}')


def _refer() -> None:
    op.create_foreign_key(OF_SCORE, 'score', 'generation', ['generation_seq'], ['seq'])
