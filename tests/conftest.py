"""What every test starts from: settings that point at a folder of its own, and no network but loopback."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
for name in [name for name in os.environ if name.startswith("DRIFTLINE_")]:
    del os.environ[name]

SHARED_DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"


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


@pytest.fixture
def store(data_dir: Path) -> Path:
    """The data folder with an upgraded, empty store in it."""
    from driftline.store.upgrade import upgrade

    upgrade()
    return data_dir


@pytest.fixture
def shared_data() -> Path:
    """Real data sets beside the project; the test is skipped where they are absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real data at {SHARED_DATA}")
    return SHARED_DATA
