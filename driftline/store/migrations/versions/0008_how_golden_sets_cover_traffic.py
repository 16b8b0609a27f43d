"""How far golden sets cover what people ask

Revision: 0008, after 0007.
"""

import sqlalchemy as sa
import sqlmodel
from sqlalchemy.dialects import postgresql
from alembic import op

revision = '0008'
down_revision = '0007'
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), 'sqlite')
DOCUMENT = sa.JSON().with_variant(postgresql.JSONB(astext_type=sa.Text()), 'postgresql')


def upgrade() -> None:
    op.create_table(
        'coverage',
        sa.Column('id', KEY, nullable=False),
        sa.Column('project_id', KEY, nullable=False),
        sa.Column('golden_version_id', KEY, nullable=False),
        sa.Column('route', sqlmodel.sql.sqltypes.AutoString(length=64), nullable=False),
        sa.Column('since', sa.BigInteger(), nullable=False),
        sa.Column('until', sa.BigInteger(), nullable=False),
        sa.Column('n_prompts', sa.Integer(), nullable=False),
        sa.Column('n_items', sa.Integer(), nullable=False),
        sa.Column('encoder', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column('radius', sa.Float(), nullable=False),
        sa.Column('outside', sa.Float(), nullable=False),
        sa.Column('low', sa.Float(), nullable=False),
        sa.Column('high', sa.Float(), nullable=False),
        sa.Column('expected', sa.Float(), nullable=False),
        sa.Column('expected_high', sa.Float(), nullable=False),
        sa.Column('groups', DOCUMENT, nullable=False),
        sa.Column('weights', DOCUMENT, nullable=False),
        sa.Column('sample_hash', sqlmodel.sql.sqltypes.AutoString(length=64), nullable=False),
        sa.Column('created_at', sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(['golden_version_id'], ['golden_version.id'], name=op.f('fk_coverage_golden_version_id_golden_version')),
        sa.ForeignKeyConstraint(['project_id'], ['project.id'], name=op.f('fk_coverage_project_id_project')),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_coverage')),
    )
    op.create_index('ix_coverage_version', 'coverage', ['golden_version_id', 'id'], unique=False)
    op.create_index(op.f('ix_coverage_project_id'), 'coverage', ['project_id'], unique=False)


def downgrade() -> None:
    op.drop_table('coverage')
