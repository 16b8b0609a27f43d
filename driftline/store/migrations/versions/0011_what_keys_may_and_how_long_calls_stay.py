"""What keys may and how long, how long calls stay, and points of metrics

Revision: 0011, after 0010.
"""

import sqlalchemy as sa
import sqlmodel
from sqlalchemy import Text
from sqlalchemy.dialects import postgresql
from alembic import op

revision = '0011'
down_revision = '0010'
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), 'sqlite')
DOCUMENT = sa.JSON().with_variant(postgresql.JSONB(astext_type=sa.Text()), 'postgresql')


def upgrade() -> None:
    with op.batch_alter_table('project', schema=None) as batch_op:
        batch_op.add_column(sa.Column('keep_days', sa.Integer(), nullable=True))
    with op.batch_alter_table('api_key', schema=None) as batch_op:
        batch_op.add_column(sa.Column('expires_at', sa.BigInteger(), nullable=True))
        batch_op.add_column(sa.Column('calls_per_minute', sa.Integer(), nullable=True))
    op.create_table(
        'metric_point',
        sa.Column('id', KEY, nullable=False),
        sa.Column('project_id', KEY, nullable=False),
        sa.Column('name', sqlmodel.sql.sqltypes.AutoString(length=128), nullable=False),
        sa.Column('unit', sqlmodel.sql.sqltypes.AutoString(length=32), nullable=False),
        sa.Column('stream', sqlmodel.sql.sqltypes.AutoString(length=32), nullable=False),
        sa.Column('labels', DOCUMENT, nullable=False),
        sa.Column('is_cumulative', sa.Boolean(), nullable=False),
        sa.Column('start_at', sa.BigInteger(), nullable=False),
        sa.Column('at', sa.BigInteger(), nullable=False),
        sa.Column('n', sa.BigInteger(), nullable=False),
        sa.Column('total', sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(['project_id'], ['project.id'], name=op.f('fk_metric_point_project_id_project')),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_metric_point')),
        sa.UniqueConstraint('project_id', 'stream', 'at', name=op.f('uq_metric_point_project_id_stream_at')),
    )
    op.create_index('ix_metric_point_project_name_at', 'metric_point', ['project_id', 'name', 'at'])


def downgrade() -> None:
    op.drop_table('metric_point')
    with op.batch_alter_table('api_key', schema=None) as batch_op:
        batch_op.drop_column('calls_per_minute')
        batch_op.drop_column('expires_at')
    with op.batch_alter_table('project', schema=None) as batch_op:
        batch_op.drop_column('keep_days')
