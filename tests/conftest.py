"""What every test starts from: settings that point at a folder of its own, and no network but loopback."""

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError

os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
for name in [name for name in os.environ if name.startswith("DRIFTLINE_") and not name.startswith("DRIFTLINE_TEST_")]:
    del os.environ[name]

hypothesis_settings.register_profile("unhurried", deadline=None)  # machines that tests share stall now and then
hypothesis_settings.load_profile("unhurried")

SHARED_DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
POSTGRES = os.environ.get("DRIFTLINE_TEST_POSTGRES", "postgresql+psycopg://root@/postgres?host=/var/run/postgresql")


def read_anew() -> None:
    """Makes this process read its environment anew: settings, engine, broker, keys."""
    from driftline import queue, settings
    from driftline.store import engine, secrets

    settings.settings.cache_clear()
    engine._engine.cache_clear()
    queue.messenger.cache_clear()
    secrets.installation_key.cache_clear()


@pytest.fixture
def forget_settings() -> Callable[[], None]:
    """Call it after changing the environment."""
    return read_anew


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A fresh data folder that this process's settings point at."""
    monkeypatch.setenv("DRIFTLINE_DATA_DIR", str(tmp_path / "data"))
    read_anew()
    yield tmp_path / "data"
    read_anew()


@pytest.fixture(scope="session")
def upgraded_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An upgraded, empty SQLite file, to be copied: upgrading takes longer than most tests."""
    from driftline.store.engine import open_engine
    from driftline.store.upgrade import upgrade

    path = tmp_path_factory.mktemp("upgraded") / "driftline.db"
    engine = open_engine(f"sqlite:///{path}")
    upgrade(engine)
    engine.dispose()
    return path


@pytest.fixture
def store(data_dir: Path, upgraded_sqlite: Path) -> Path:
    """The data folder with an upgraded, empty store in it."""
    data_dir.mkdir()
    shutil.copy(upgraded_sqlite, data_dir / "driftline.db")
    return data_dir


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a PostgreSQL server: the one of DRIFTLINE_TEST_POSTGRES, else one of our own, else the test skips."""
    try:
        execute(POSTGRES, "SELECT 1")
        yield POSTGRES
    except OperationalError as error:
        if shutil.which("initdb") is None or shutil.which("pg_ctl") is None:
            pytest.skip(f"no PostgreSQL server answers, and initdb and pg_ctl are not installed: {error.orig}")
        folder = Path(tempfile.mkdtemp(prefix="driftline-postgres-"))
        try:
            with_server = _serve_postgres(folder)
            yield with_server
        finally:
            _as_nobody_special(folder, "pg_ctl", "-D", str(folder / "data"), "-m", "immediate", "stop", check=False)
            shutil.rmtree(folder)


def _serve_postgres(folder: Path) -> str:
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        shutil.chown(folder, "postgres")
    _as_nobody_special(folder, "initdb", "-D", str(folder / "data"), "-A", "trust", "-U", "tester", "--no-sync")
    options = f"-k {folder} -c listen_addresses='' -c fsync=off"
    log = str(folder / "log")
    _as_nobody_special(folder, "pg_ctl", "-D", str(folder / "data"), "-o", options, "-l", log, "-w", "start")
    return f"postgresql+psycopg://tester@/postgres?host={folder}"


def _as_nobody_special(folder: Path, *command: str, check: bool = True) -> None:
    lower = ("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups") if os.geteuid() == 0 else ()
    subprocess.run([*lower, *command], cwd=folder, check=check, stdout=subprocess.DEVNULL, timeout=60)


def execute(url: str, statement: str) -> None:
    """Runs a statement on a PostgreSQL server, outside a transaction."""
    server = create_engine(url, isolation_level="AUTOCOMMIT")
    try:
        with server.connect() as connection:
            connection.execute(text(statement))
    finally:
        server.dispose()


@pytest.fixture
def execute_on() -> Callable[[str, str], None]:
    """Runs a statement on the PostgreSQL database of a URL, outside a transaction."""
    return execute


@pytest.fixture(scope="session")
def make_postgres(postgres_server: str) -> Iterator[Callable[[], str]]:
    """Makes an empty PostgreSQL database and gives its URL; all of them are dropped at the end."""
    made = []

    def make() -> str:
        name = f"driftline_test_{secrets.token_hex(6)}"
        execute(postgres_server, f"CREATE DATABASE {name} TEMPLATE template0")
        made.append(name)
        return make_url(postgres_server).set(database=name).render_as_string(hide_password=False)

    yield make
    for name in made:
        execute(postgres_server, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def upgraded_postgres(make_postgres: Callable[[], str]) -> str:
    """The URL of an upgraded PostgreSQL database, to be emptied before each use: making one takes seconds."""
    from driftline.store.engine import open_engine
    from driftline.store.upgrade import upgrade

    url = make_postgres()
    engine = open_engine(url)
    upgrade(engine)
    engine.dispose()
    return url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An upgraded, empty store that this process's settings point at, once on each database; its dialect's name."""
    from driftline.store.engine import engine

    if request.param == "sqlite":
        request.getfixturevalue("store")
        yield request.param
        engine().dispose()
        return
    from driftline.store.tables import METADATA

    url = request.getfixturevalue("upgraded_postgres")
    emptied = [f"DELETE FROM {table.name}" for table in reversed(METADATA.sorted_tables)]  # far faster than TRUNCATE
    execute(url, "; ".join([*emptied, "SELECT setval(oid, 1, false) FROM pg_class WHERE relkind = 'S'"]))
    monkeypatch.setenv("DRIFTLINE_DATABASE_URL", url)
    read_anew()
    yield request.param
    engine().dispose()


@pytest.fixture
def work_off(data_dir: Path) -> Callable[..., list[tuple[str, str | None]]]:
    """Runs queued jobs in this process until none is due; gives the kind and outcome of each run, in order.

    `kinds` limits which; `early` runs also what is due later, as if the time had come. More than `rounds` rounds fail.
    """
    from sqlmodel import col, select

    from driftline.moment import now_us
    from driftline.store.engine import writing
    from driftline.store.tables import Job
    from scheduler.work import run_job

    def is_due(job: Job) -> bool:
        return job.due_at <= now_us()

    def run(
        kinds: Collection[str] | None = None, *, rounds: int = 200, early: bool = False
    ) -> list[tuple[str, str | None]]:
        done: list[tuple[str, str | None]] = []
        for _ in range(rounds):
            with writing() as session:
                queued = session.exec(select(Job).where(Job.state == "queued").order_by(col(Job.id))).all()
                due = [job for job in queued if (kinds is None or job.kind in kinds) and (early or is_due(job))]
                for job in due:
                    job.due_at = min(job.due_at, now_us())
                    session.add(job)
            if not due:
                return done
            done += [(job.kind, run_job(job.id)) for job in due]
        raise AssertionError(f"jobs are still queued after {rounds} rounds: {done[-3:]}")

    return run


@pytest.fixture
def shared_data() -> Path:
    """Real data sets beside the project; the test is skipped where they are absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real data at {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(autouse=True)
def no_caller_is_remembered() -> None:
    """Each test has a store of its own; who was looked up in the one before is nobody here."""
    from driftline.access import forget_callers

    forget_callers()
