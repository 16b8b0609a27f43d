"""The dashboard over a store as it looks after a day in production. The store is made once and copied for each test."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from sqlmodel import Session, select
from starlette.testclient import TestClient

sys.path.insert(0, str(Path(__file__).parent))  # test folders are no packages; this one brings its own seed

HOME = "http://127.0.0.1:8400"
CLICK = {"origin": HOME, "sec-fetch-site": "same-origin"}  # what a browser says of a click on our own pages


@pytest.fixture(scope="session")
def seeded_store(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The folder of a filled store, and the keys of what is in it."""
    from seeded_day.fill import fill

    from driftline.store.engine import open_engine
    from driftline.store.upgrade import upgrade

    folder = tmp_path_factory.mktemp("seeded")
    engine = open_engine(f"sqlite:///{folder / 'driftline.db'}")
    upgrade(engine)
    with Session(engine, expire_on_commit=False) as session:
        seeded = fill(session, folder)
        session.commit()
    engine.dispose()
    return folder, seeded


@pytest.fixture
def seeded(seeded_store: tuple[Path, Any], data_dir: Path) -> Any:
    """A filled store of this test's own, open to everybody on loopback."""
    from driftline.access import forget_callers
    from driftline.moment import now_us
    from driftline.store.engine import writing
    from driftline.store.tables import ApiKey

    folder, keys = seeded_store
    data_dir.mkdir(parents=True)
    shutil.copy(folder / "driftline.db", data_dir / "driftline.db")
    with writing() as session:
        for key in session.exec(select(ApiKey)):
            key.revoked_at = now_us()
            session.add(key)
    forget_callers()
    return keys


@pytest.fixture(scope="session")
def app() -> FastAPI:
    """The web application as `driftline show` serves it."""
    from driftline.cli.web import application

    return application(collector=False, dashboard=True)


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    """A browser on this very machine that shows where a redirect leads instead of going there."""
    with TestClient(app, base_url=HOME, follow_redirects=False) as client:
        yield client


@pytest.fixture
def foreign(seeded: Any, client: TestClient) -> dict[str, str]:
    """The Authorization header of somebody from another project."""
    from driftline.access import forget_callers
    from driftline.store.engine import writing
    from driftline.store.tables import ApiKey

    with writing() as session:
        for key in session.exec(select(ApiKey).where(ApiKey.name == "theirs")):
            key.revoked_at = None
            session.add(key)
    forget_callers()
    return {"authorization": f"Bearer {seeded.foreign_key}"}
