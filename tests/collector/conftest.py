"""The collector as its users meet it: an app with its routes, on SQLite and on PostgreSQL."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError

POSTGRES = os.environ.get("DRIFTLINE_TEST_POSTGRES", "postgresql+psycopg://root@/postgres?host=/var/run/postgresql")


@contextmanager
def postgres_database() -> Iterator[str]:
    """The URL of a fresh PostgreSQL database, dropped afterwards; skips where no server answers."""
    server = create_engine(POSTGRES, isolation_level="AUTOCOMMIT")
    name = f"driftline_test_{secrets.token_hex(6)}"
    try:
        with server.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
    except OperationalError as error:
        pytest.skip(f"no PostgreSQL server answers: {error.orig}")
    try:
        yield make_url(POSTGRES).set(database=name).render_as_string(hide_password=False)
    finally:
        with server.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        server.dispose()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def either_store(request: pytest.FixtureRequest, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An upgraded, empty store, once on each database; its name."""
    from driftline.store.engine import engine
    from driftline.store.upgrade import upgrade

    if request.param == "sqlite":
        upgrade()
        yield "sqlite"
        engine().dispose()
        return
    with postgres_database() as url:
        monkeypatch.setenv("DRIFTLINE_DATABASE_URL", url)
        from driftline.settings import settings

        settings.cache_clear()
        upgrade()
        yield "postgres"
        engine().dispose()


def make_app() -> FastAPI:
    """An app of the collector alone, with errors as the composed app answers them."""
    from collector.http import routes
    from driftline.access import forget_callers
    from driftline.errors import DriftlineError

    forget_callers()
    app = FastAPI()
    app.include_router(routes())

    @app.exception_handler(DriftlineError)
    async def answer(_request: Request, error: DriftlineError) -> JSONResponse:
        return JSONResponse({"detail": error.message}, error.status, media_type="application/problem+json")

    return app


@pytest.fixture
def client(either_store: str) -> Iterator[TestClient]:
    """A client of a running collector, once on each database."""
    with TestClient(make_app()) as opened:
        yield opened


@pytest.fixture
def sqlite_client(store: Path) -> Iterator[TestClient]:
    """A client of a running collector on SQLite, for what no database has a say in."""
    with TestClient(make_app()) as opened:
        yield opened
