"""Artifacts belong to a project each: two that keep the same bytes have a row each

Revision: 0014, after 0013.
"""

from alembic import op

revision = '0014'
down_revision = '0013'
branch_labels = None
depends_on = None


def upgrade() -> None:
    _key_by(['project_id', 'sha256'])
    op.drop_index('ix_artifact_project_id', 'artifact')


def downgrade() -> None:
    op.execute(
        'DELETE FROM artifact WHERE project_id > (SELECT MIN(other.project_id) FROM artifact AS other '
        'WHERE other.sha256 = artifact.sha256)'
    )
    op.create_index('ix_artifact_project_id', 'artifact', ['project_id'])
    _key_by(['sha256'])


def _key_by(columns: list[str]) -> None:
    recreate = 'always' if op.get_bind().dialect.name == 'sqlite' else 'never'
    with op.batch_alter_table('artifact', recreate=recreate) as batch_op:
        batch_op.drop_constraint('pk_artifact', type_='primary')
        batch_op.create_primary_key('pk_artifact', columns)
