"""Databases without tables, and sessions on databases that have them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from driftline.store.engine import open_engine, writing
from driftline.store.tables import Project


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def bare(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """An empty database without any table, once of each kind."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'bare.db'}"
    else:
        make: Callable[[], str] = request.getfixturevalue("make_postgres")
        url = make()
    engine = open_engine(url)
    yield engine
    engine.dispose()


@pytest.fixture
def project(database: str) -> Project:
    """The project `default`, once in a store on each database."""
    from driftline.store.projects import ensure_project

    with writing() as session:
        return ensure_project(session)
