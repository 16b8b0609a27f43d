"""Ids are found by their hashes, whatever level their entries have moved to, and no call is taken for another."""

import random
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from driftline.store import ids
from driftline.store.hashing import sample_key
from driftline.store.ids import id_hash, levels, move_on, newest_key, on_levels, trace_hashes

SPACE = 1 << ids.HASH_BITS


@pytest.fixture(autouse=True)
def small_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"FIRST": 64, "GROWTH": 4, "STRIDE": 8, "AT_ONCE": 32}.items():
        monkeypatch.setattr(ids, name, value)


@pytest.fixture
def driver() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("CREATE TABLE generation (seq INTEGER PRIMARY KEY AUTOINCREMENT)")
    connection.execute("CREATE TABLE generation_key (hash INTEGER, seq INTEGER, PRIMARY KEY (hash, seq)) WITHOUT ROWID")
    yield connection
    connection.close()


def add(driver: sqlite3.Connection, hashes: list[int]) -> None:
    """As the collector does it in one commit."""
    before = newest_key(driver)
    keys = range(before + 1, before + 1 + len(hashes))
    driver.executemany("INSERT INTO generation VALUES (?)", [(key,) for key in keys])
    driver.executemany("INSERT INTO generation_key VALUES (?, ?)", zip(hashes, keys, strict=True))
    move_on(driver, before, before + len(hashes))


def found(driver: sqlite3.Connection, hashes: list[int]) -> dict[int, set[int]]:
    by_hash: dict[int, set[int]] = {}
    for one in on_levels(hashes, newest_key(driver)):
        for (key,) in driver.execute("SELECT seq FROM generation_key WHERE hash = ?", (one,)):
            by_hash.setdefault(one % SPACE, set()).add(key)
    return by_hash


def sizes(driver: sqlite3.Connection) -> dict[int, int]:
    return dict(driver.execute(f"SELECT hash >> {ids.HASH_BITS}, count(*) FROM generation_key GROUP BY 1"))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    commits=st.lists(st.integers(1, 400), min_size=1, max_size=30),
    seed=st.integers(0, 2**32),
    few=st.sampled_from([SPACE, 1000, 3]),
)
def test_every_entry_is_found_after_every_commit(driver: Any, commits: list[int], seed: int, few: int) -> None:
    driver.execute("DELETE FROM generation_key")
    driver.execute("DELETE FROM generation")
    driver.execute("DELETE FROM sqlite_sequence")
    drawn = random.Random(seed)
    stored: dict[int, set[int]] = {}
    for size in commits:
        hashes = [drawn.randrange(few) * (SPACE // few) for _ in range(size)]
        first = newest_key(driver) + 1
        add(driver, hashes)
        for key, one in enumerate(hashes, first):
            stored.setdefault(one, set()).add(key)
        sample = drawn.sample(sorted(stored), min(len(stored), 50))
        assert found(driver, sample) == {one: stored[one] for one in sample}
    assert found(driver, list(stored)) == stored
    assert sum(sizes(driver).values()) == newest_key(driver), "none is there twice"


@pytest.mark.parametrize("commit", [1, 7, 64, 500])
def test_levels_hold_about_what_they_are_for(driver: Any, commit: int) -> None:
    drawn = random.Random(1)
    for _ in range(20_000 // commit):
        add(driver, [drawn.randrange(SPACE) for _ in range(commit)])
    held = sizes(driver)
    assert levels(newest_key(driver)) == 6
    for level in range(4):
        capacity = 64 * 4**level
        assert held.get(level, 0) <= 1.5 * capacity + commit, f"level {level}"
    assert held[5] > 0


def test_a_commit_changes_few_places_of_the_lower_levels(driver: Any) -> None:
    drawn = random.Random(2)
    for _ in range(250):
        add(driver, [drawn.randrange(SPACE) for _ in range(80)])
    before = set(driver.execute("SELECT hash FROM generation_key").fetchall())
    add(driver, [drawn.randrange(SPACE) for _ in range(8)])
    after = set(driver.execute("SELECT hash FROM generation_key").fetchall())
    came = [one for (one,) in after - before]
    assert [one for one in came if one >= 2 * SPACE], "the lower hands moved"
    for level in range(1, 5):
        places = sorted(one % SPACE for one in came if one >> ids.HASH_BITS == level)
        assert not places or places[-1] - places[0] <= SPACE * 8 // (64 * 4 ** (level - 1)), "to neighbouring places"


def test_a_trace_with_very_many_calls_is_not_moved_at_once(driver: Any) -> None:
    first, last = trace_hashes(1, "ab" * 16)
    drawn = random.Random(3)
    moved = []
    for _ in range(200):
        lower = sum(n for level, n in sizes(driver).items() if level > 0)
        add(driver, [drawn.randint(first, last) for _ in range(8)])
        moved.append(sum(n for level, n in sizes(driver).items() if level > 0) - lower)
    assert max(moved) <= ids.AT_ONCE + 8 * 8
    assert sum(sizes(driver).values()) == 1600


def test_hashes_tell_projects_apart_and_keep_a_trace_together() -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    spans = [trace + f"{n:016x}" for n in range(500)]
    first, last = trace_hashes(7, trace)
    hashes = [id_hash(7, one) for one in spans]
    assert all(first <= one <= last for one in hashes)
    assert len(set(hashes)) == 500
    assert not set(hashes) & {id_hash(8, one) for one in spans}
    others = ["a", "order-1", "é" * 64, trace, trace + "0" * 17]
    assert all(0 <= id_hash(project, one) < SPACE for one in others + spans for project in (1, 7, 2**40))
    assert len({id_hash(project, one) for one in others for project in range(100)}) == 500
    assert id_hash(7, spans[0], sample_key(spans[0])) == hashes[0]
