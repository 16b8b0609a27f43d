"""Who people are in Slack

Revision: 0015, after 0014.
"""

import sqlalchemy as sa
from alembic import op

revision = '0015'
down_revision = '0014'
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table('user_account', schema=None) as batch_op:
        batch_op.add_column(sa.Column('slack_id', sa.String(length=32), nullable=True))
        batch_op.create_unique_constraint('uq_user_account_slack_id', ['slack_id'])


def downgrade() -> None:
    with op.batch_alter_table('user_account', schema=None) as batch_op:
        batch_op.drop_constraint('uq_user_account_slack_id', type_='unique')
        batch_op.drop_column('slack_id')
