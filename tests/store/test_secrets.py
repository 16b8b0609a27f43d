"""The installation's key: one for all processes, made once, whoever comes first and however it is interrupted."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from driftline.errors import DriftlineError
from driftline.store.secrets import installation_key, seal, unseal

make = installation_key.__wrapped__  # as a process that has not asked yet


def test_all_who_ask_for_the_first_time_at_once_get_the_same_key(data_dir: Path) -> None:
    for attempt in range(30):
        (data_dir / "secret.key").unlink(missing_ok=True)
        at_once = Barrier(8)

        def ask(_: int, at_once: Barrier = at_once) -> bytes:
            at_once.wait()
            return bytes(make())

        with ThreadPoolExecutor(8) as askers:
            keys = set(askers.map(ask, range(8)))
        assert {len(key) for key in keys} == {32}, f"attempt {attempt}"
        assert len(keys) == 1
    assert [path.name for path in data_dir.iterdir()] == ["secret.key"]
    assert stat.S_IMODE((data_dir / "secret.key").stat().st_mode) == 0o600


def test_a_damaged_key_is_named_instead_of_being_used(data_dir: Path) -> None:
    data_dir.mkdir()
    (data_dir / "secret.key").write_bytes(b"")
    with pytest.raises(DriftlineError, match=r"secret\.key is damaged: it has 0 bytes instead of 32"):
        installation_key()


def test_what_was_sealed_with_another_key_says_so(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, forget_settings: object
) -> None:
    sealed = seal("https://hooks.example/hush")
    assert unseal(sealed) == "https://hooks.example/hush"
    monkeypatch.setenv("DRIFTLINE_SECRET_KEY", "another")
    assert callable(forget_settings)
    forget_settings()
    with pytest.raises(DriftlineError, match="Set DRIFTLINE_SECRET_KEY to the key it was stored with"):
        unseal(sealed)
