"""Rules on `benefit` are on `benefit_erosion`, and so are the alerts and matchers that name it

Revision: 0012, after 0011.
"""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from alembic import op

revision = '0012'
down_revision = '0011'
branch_labels = None
depends_on = None

DOCUMENT = sa.JSON().with_variant(postgresql.JSONB(astext_type=sa.Text()), 'postgresql')
ONCE, NOW = 'benefit', 'benefit_erosion'
NAMING = {
    'alert_rule': ('matchers',), 'silence': ('matchers',), 'inhibition': ('source', 'target'), 'alert': ('labels',),
    'alert_part': ('labels',),
}


def upgrade() -> None:
    rules = sa.table('alert_rule', sa.column('on', sa.String()), sa.column('condition', DOCUMENT))
    op.execute(rules.update().where(rules.c.on == ONCE).values({'on': NOW, 'condition': {'benefit': 0.1}}))
    _rename(ONCE, NOW)


def downgrade() -> None:
    pass  # which rule was on which of the two is no longer known; older versions know this one too


def _rename(once: str, now: str) -> None:
    """Changes the label `on` wherever it is matched or carried."""
    connection = op.get_bind()
    for name, columns in NAMING.items():
        for column in columns:
            table = sa.table(name, sa.column('id', sa.Integer()), sa.column(column, DOCUMENT))
            document = table.c[column]
            rows = connection.execute(sa.select(table.c.id, document).where(sa.cast(document, sa.Text()).contains(once)))
            for key, value in rows.all():
                if str(value.get('on', '')).lstrip('!=') == once:
                    renamed = value | {'on': value['on'].removesuffix(once) + now}
                    connection.execute(table.update().where(table.c.id == key).values({column: renamed}))
