"""The collector as its users meet it: an app with its routes, on SQLite and on PostgreSQL."""

import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError

from tests.collector.days_on_postgres import Clock

POSTGRES = os.environ.get("DRIFTLINE_TEST_POSTGRES", "postgresql+psycopg://root@/postgres?host=/var/run/postgresql")


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    from driftline import settings
    from driftline.store import engine

    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setenv(name, value)
        settings.settings.cache_clear()
        yield
        engine.engine().dispose()
    settings.settings.cache_clear()
    engine._engine.cache_clear()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An upgraded, empty SQLite file, to be copied: upgrading takes longer than most tests."""
    from driftline.store.upgrade import upgrade

    folder = tmp_path_factory.mktemp("template")
    with _environment(DRIFTLINE_DATA_DIR=str(folder)):
        upgrade()
    return folder / "driftline.db"


@pytest.fixture(scope="session")
def postgres_database() -> Iterator[str]:
    """The URL of an upgraded PostgreSQL database of these tests; skips where no server answers."""
    from driftline.store.upgrade import upgrade

    name = f"driftline_test_{secrets.token_hex(6)}"
    try:
        run_sql(f"CREATE DATABASE {name}")
    except OperationalError as error:
        pytest.skip(f"no PostgreSQL server answers: {error.orig}")
    url = make_url(POSTGRES).set(database=name).render_as_string(hide_password=False)
    try:
        with _environment(DRIFTLINE_DATABASE_URL=url):
            upgrade()
        yield url
    finally:
        run_sql(f"DROP DATABASE {name} WITH (FORCE)")


def run_sql(statement: str, url: str = POSTGRES) -> None:
    """Runs a statement on the PostgreSQL server, outside a transaction."""
    server = create_engine(url, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(statement))
    server.dispose()


@pytest.fixture
def sqlite_store(data_dir: Path, sqlite_template: Path) -> Iterator[Path]:
    """An empty SQLite store that this process's settings point at; its folder."""
    from driftline.store.engine import engine

    data_dir.mkdir(exist_ok=True)
    shutil.copy(sqlite_template, data_dir / "driftline.db")
    yield data_dir
    engine().dispose()


@pytest.fixture
def postgres_store(data_dir: Path, postgres_database: str) -> Iterator[str]:
    """An empty PostgreSQL store that this process's settings point at; its URL."""
    from driftline.store.engine import engine
    from driftline.store.tables import METADATA

    with _environment(DRIFTLINE_DATABASE_URL=postgres_database):
        tables = ", ".join(f'"{name}"' for name in METADATA.tables)
        with engine().begin() as connection:
            connection.execute(text(f"TRUNCATE {tables} RESTART IDENTITY CASCADE"))
        yield postgres_database


@pytest.fixture(scope="session")
def postgres_template(make_postgres: Callable[[], str]) -> str:
    """The URL of an upgraded, empty PostgreSQL database, to be copied."""
    from driftline.store.upgrade import upgrade

    url = make_postgres()
    with _environment(DRIFTLINE_DATABASE_URL=url):
        upgrade()
    return url


@pytest.fixture
def own_postgres(data_dir: Path, postgres_template: str, postgres_server: str) -> Iterator[str]:
    """A PostgreSQL database of one test, on which no day has begun, that this process's settings point at; its URL."""
    name = f"driftline_test_{secrets.token_hex(6)}"
    run_sql(f"CREATE DATABASE {name} TEMPLATE {make_url(postgres_template).database}", postgres_server)
    url = make_url(postgres_template).set(database=name).render_as_string(hide_password=False)
    with _environment(DRIFTLINE_DATABASE_URL=url):
        yield url
    run_sql(f"DROP DATABASE {name} WITH (FORCE)", postgres_server)


@pytest.fixture(params=["sqlite_store", pytest.param("postgres_store", marks=pytest.mark.postgres)])
def either_store(request: pytest.FixtureRequest) -> str:
    """An empty store, once on each database; the name of its fixture."""
    request.getfixturevalue(request.param)
    return str(request.param)


def make_app(collector: Any = None) -> FastAPI:
    """An app of the collector alone, with errors as the composed app answers them."""
    from collector.http import routes
    from driftline.access import forget_callers
    from driftline.errors import DriftlineError

    forget_callers()
    app = FastAPI()
    app.include_router(routes(collector))

    @app.exception_handler(DriftlineError)
    async def answer(_request: Request, error: DriftlineError) -> JSONResponse:
        return JSONResponse({"detail": error.message}, error.status, media_type="application/problem+json")

    return app


@contextmanager
def serving(app: FastAPI) -> Iterator[int]:
    """Serves an app with uvicorn in a thread; its port."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", lifespan="on"))
    thread = Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def serve() -> Callable[[FastAPI], AbstractContextManager[int]]:
    """Serves an app on a real port."""
    return serving


@pytest.fixture
def app_of() -> Callable[..., FastAPI]:
    """Makes an app of a collector that the test has made."""
    return make_app


@pytest.fixture
def client(either_store: str) -> Iterator[TestClient]:
    """A client of a running collector, once on each database."""
    with TestClient(make_app()) as opened:
        yield opened


@pytest.fixture
def sqlite_client(sqlite_store: Path) -> Iterator[TestClient]:
    """A client of a running collector on SQLite, for what no database has a say in."""
    with TestClient(make_app()) as opened:
        yield opened


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The server's clock, set by hand."""
    from collector import days

    made = Clock()
    monkeypatch.setattr(days, "server_us", made)
    monkeypatch.setattr(days, "LOOK_S", 0.0)
    monkeypatch.setattr(days, "WIDTHS", ((0, 1),))  # a partition a day, however little it holds
    return made


@pytest.fixture
def project(own_postgres: str) -> int:
    """The key of the project `default` in a PostgreSQL database of the test's own."""
    from driftline.store.engine import writing
    from driftline.store.projects import ensure_project

    with writing() as session:
        return ensure_project(session).id
