"""Calls by session and by user

Revision: 0013, after 0012.
"""

import sqlalchemy as sa
import sqlmodel
from sqlalchemy import Text
from alembic import op

revision = '0013'
down_revision = '0012'
branch_labels = None
depends_on = None


def upgrade() -> None:
    for column in ('session_id', 'user_id'):
        known = sa.text(f'{column} IS NOT NULL')
        op.create_index(
            f"ix_generation_{column.removesuffix('_id')}_started", 'generation', ['project_id', column, 'started_at'],
            sqlite_where=known, postgresql_where=known,
        )


def downgrade() -> None:
    for column in ('session_id', 'user_id'):
        op.drop_index(f"ix_generation_{column.removesuffix('_id')}_started", 'generation')
