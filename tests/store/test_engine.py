"""Opening the store: what its sessions promise, and what an operator is told when it cannot be used."""

import secrets
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from driftline.errors import StoreUnavailable
from driftline.store.engine import open_engine
from driftline.store.upgrade import upgrade


@pytest.mark.postgres
@pytest.mark.parametrize("withheld", ["CREATE", "ALL"])
def test_a_database_user_who_may_not_make_tables_is_told_what_is_missing(
    withheld: str, make_postgres: Callable[[], str], execute_on: Any
) -> None:
    url, user = make_postgres(), f"driftline_poor_{secrets.token_hex(4)}"
    execute_on(url, f"REVOKE {withheld} ON SCHEMA public FROM PUBLIC; CREATE ROLE {user}")
    engine = open_engine(make_url(url).update_query_dict({"options": f"-c role={user}"}).render_as_string(False))
    try:
        with pytest.raises(StoreUnavailable, match="Grant it to the database's user"):
            upgrade(engine)
    finally:
        engine.dispose()
        execute_on(url, f"DROP ROLE {user}")
