"""Room for the configuration of a scorer

Revision: 0018, after 0017.
"""

import sqlmodel
from alembic import op

revision = '0018'
down_revision = '0017'
branch_labels = None
depends_on = None

COLUMNS = (('score', 'version'), ('comparison', 'evaluator_version'))


def upgrade() -> None:
    _resize(32, 128)


def downgrade() -> None:
    _resize(128, 32)


def _resize(before: int, after: int) -> None:
    for table, column in COLUMNS:
        with op.batch_alter_table(table, schema=None) as batch_op:
            batch_op.alter_column(
                column,
                existing_type=sqlmodel.sql.sqltypes.AutoString(length=before),
                type_=sqlmodel.sql.sqltypes.AutoString(length=after),
                existing_nullable=False,
                postgresql_using=f'substr({column}, 1, {after})' if after < before else None,  # it rewrites the table
            )
