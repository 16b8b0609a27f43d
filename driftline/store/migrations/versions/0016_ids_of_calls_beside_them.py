"""Ids of calls in a table of their own on PostgreSQL, so that calls can be parted by days

Revision: 0016, after 0015.
"""

import sqlalchemy as sa
import sqlmodel
from alembic import op

revision = '0016'
down_revision = '0015'
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_bind().dialect.name != 'postgresql':
        return
    op.create_table(
        'generation_key',
        sa.Column('project_id', sa.BigInteger(), nullable=False),
        sa.Column('id', sqlmodel.sql.sqltypes.AutoString(length=64), nullable=False),
        sa.Column('seq', sa.BigInteger(), nullable=False),
    )
    op.execute('INSERT INTO generation_key SELECT project_id, id, seq FROM generation')
    op.create_primary_key('pk_generation_key', 'generation_key', ['project_id', 'id'])
    op.drop_constraint('uq_generation_project_id_id', 'generation')


def downgrade() -> None:
    if op.get_bind().dialect.name != 'postgresql':
        return
    op.create_unique_constraint('uq_generation_project_id_id', 'generation', ['project_id', 'id'])
    op.drop_table('generation_key')
