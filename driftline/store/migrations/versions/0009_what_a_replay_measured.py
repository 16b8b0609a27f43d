"""What a replay measured

Revision: 0009, after 0008.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = '0009'
down_revision = '0008'
branch_labels = None
depends_on = None

DOCUMENT = sa.JSON().with_variant(postgresql.JSONB(astext_type=sa.Text()), 'postgresql')


def upgrade() -> None:
    with op.batch_alter_table('replay', schema=None) as batch_op:
        batch_op.add_column(sa.Column('measured', DOCUMENT, nullable=False, server_default='{}'))


def downgrade() -> None:
    with op.batch_alter_table('replay', schema=None) as batch_op:
        batch_op.drop_column('measured')
