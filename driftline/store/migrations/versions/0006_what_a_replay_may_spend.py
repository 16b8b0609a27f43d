"""What a replay may spend, why it stopped, repeats, and schedules that miss their moment

Revision: 0006, after 0005.
"""

import sqlalchemy as sa
import sqlmodel
from sqlalchemy import Text
from sqlalchemy.dialects import postgresql
from alembic import op

revision = '0006'
down_revision = '0005'
branch_labels = None
depends_on = None

DOCUMENT = sa.JSON().with_variant(postgresql.JSONB(astext_type=sa.Text()), 'postgresql')


def upgrade() -> None:
    with op.batch_alter_table('replay', schema=None) as batch_op:
        for name in ('repeats', 'looks'):
            default = '1' if name == 'repeats' else '0'
            batch_op.add_column(sa.Column(name, sa.Integer(), nullable=False, server_default=default))
        for name in ('calls', 'reused', 'tokens', 'cost_nano'):
            batch_op.add_column(sa.Column(name, sa.BigInteger(), nullable=False, server_default='0'))
        for name in ('plan', 'looked', 'judges'):
            batch_op.add_column(sa.Column(name, DOCUMENT, nullable=False, server_default='{}'))
        batch_op.add_column(sa.Column('joules', sa.Float(), nullable=False, server_default='0'))
        batch_op.add_column(sa.Column('stopped', sa.Text(), nullable=True))
        batch_op.add_column(sa.Column('started_at', sa.BigInteger(), nullable=True))
    with op.batch_alter_table('answer', schema=None) as batch_op:
        batch_op.add_column(sa.Column('repeat', sa.Integer(), nullable=False, server_default='0'))
        batch_op.add_column(sa.Column('is_reused', sa.Boolean(), nullable=False, server_default=sa.false()))
        batch_op.drop_constraint('uq_answer_replay_id_item_id', type_='unique')
        batch_op.create_unique_constraint('uq_answer_replay_id_item_id_repeat', ['replay_id', 'item_id', 'repeat'])
    with op.batch_alter_table('schedule', schema=None) as batch_op:
        batch_op.add_column(sa.Column('jitter_s', sa.Float(), nullable=False, server_default='0'))
        batch_op.add_column(sa.Column('catch_up', sqlmodel.sql.sqltypes.AutoString(), nullable=False, server_default='once'))
        batch_op.add_column(sa.Column('catch_up_s', sa.Float(), nullable=False, server_default='3600'))


def downgrade() -> None:
    with op.batch_alter_table('schedule', schema=None) as batch_op:
        for name in ('catch_up_s', 'catch_up', 'jitter_s'):
            batch_op.drop_column(name)
    with op.batch_alter_table('answer', schema=None) as batch_op:
        batch_op.drop_constraint('uq_answer_replay_id_item_id_repeat', type_='unique')
        batch_op.create_unique_constraint('uq_answer_replay_id_item_id', ['replay_id', 'item_id'])
        batch_op.drop_column('is_reused')
        batch_op.drop_column('repeat')
    with op.batch_alter_table('replay', schema=None) as batch_op:
        for name in ('started_at', 'stopped', 'joules', 'judges', 'looked', 'plan', 'cost_nano', 'tokens', 'reused', 'calls', 'looks', 'repeats'):
            batch_op.drop_column(name)
