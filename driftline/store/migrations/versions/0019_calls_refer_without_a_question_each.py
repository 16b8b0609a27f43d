"""Calls refer to their project and variant without a question each, on PostgreSQL

Revision: 0019, after 0018. A foreign key asks twice for every call that is stored, which takes as long as a quarter of
storing it. The collector asks once a commit instead; who deletes a project or a variant is asked as before.
"""

from alembic import op

revision = '0019'
down_revision = '0018'
branch_labels = None
depends_on = None

REFERENCES = {
    'project': 'project_id = OLD.id',
    'variant': 'project_id = OLD.project_id AND variant_id = OLD.id',  # the project's, for the index that finds them
}


def upgrade() -> None:
    if op.get_bind().dialect.name != 'postgresql':
        return
    for target, where in REFERENCES.items():
        op.drop_constraint(f'fk_generation_{target}_id_{target}', 'generation', type_='foreignkey')
        op.execute(f"""
            CREATE FUNCTION refuse_{target}_with_calls() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                IF EXISTS (SELECT FROM generation WHERE {where}) THEN
                    RAISE foreign_key_violation USING MESSAGE =
                        'calls refer to {target} ' || OLD.id || '; delete them first';
                END IF;
                RETURN NULL;
            END $$
        """)
        op.execute(
            f'CREATE TRIGGER refuse_with_calls AFTER DELETE ON {target} '
            f'FOR EACH ROW EXECUTE FUNCTION refuse_{target}_with_calls()'
        )


def downgrade() -> None:
    if op.get_bind().dialect.name != 'postgresql':
        return
    for target in REFERENCES:
        op.execute(f'DROP TRIGGER refuse_with_calls ON {target}')
        op.execute(f'DROP FUNCTION refuse_{target}_with_calls()')
        op.create_foreign_key(f'fk_generation_{target}_id_{target}', 'generation', target, [f'{target}_id'], ['id'])
