"""Messages apart from their spans, and keys of generations that are never given twice

Revision: 0003, after 0002.
"""

import sqlalchemy as sa
import sqlmodel
from alembic import op

revision = '0003'
down_revision = '0002'
branch_labels = None
depends_on = None


def upgrade() -> None:
    key = sa.BigInteger().with_variant(sa.Integer(), 'sqlite')
    op.create_table('span_message',
    sa.Column('id', key, nullable=False),
    sa.Column('project_id', key, nullable=False),
    sa.Column('generation_id', sqlmodel.sql.sqltypes.AutoString(length=64), nullable=False),
    sa.Column('digest', sqlmodel.sql.sqltypes.AutoString(length=64), nullable=False),
    sa.Column('at', sa.BigInteger(), nullable=False),
    sa.Column('role', sqlmodel.sql.sqltypes.AutoString(length=64), nullable=True),
    sa.Column('content', sa.Text(), nullable=False),
    sa.Column('chars', sa.Integer(), nullable=False),
    sa.Column('joined', sa.Boolean(), nullable=False),
    sa.ForeignKeyConstraint(['project_id'], ['project.id'], name=op.f('fk_span_message_project_id_project')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_span_message')),
    sa.UniqueConstraint('project_id', 'generation_id', 'digest', name=op.f('uq_span_message_project_id_generation_id_digest'))
    )
    if op.get_bind().dialect.name == 'sqlite':
        with op.batch_alter_table('generation', recreate='always', table_kwargs={'sqlite_autoincrement': True}):
            pass


def downgrade() -> None:
    op.drop_table('span_message')
