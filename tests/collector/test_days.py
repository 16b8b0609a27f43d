"""Calls of different days on PostgreSQL: one partition a day of arrival, one growing key, one namespace of ids."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlmodel import col, select

from collector import days
from collector.days import Days, open_day
from collector.late import MessageRow
from collector.record import FeedbackRecord
from collector.retention import erase_user
from collector.rows import feedback_row
from collector.transfer import export_records, import_file
from collector.writer import Batch, Writer
from dashboard.api.lists import LISTS, keyset_page, stretches_of
from driftline.moment import DAY, SECOND, now_us
from driftline.store.days import DAY_BITS, first_key_since, key_of, last_key, name_of, parts
from driftline.store.engine import engine, reading, writing
from driftline.store.generations import began_since, with_ids
from driftline.store.projects import ensure_project
from driftline.store.tables import Feedback, Generation, Rollup
from tests.collector.days_on_postgres import FULL, TODAY, Clock, names, row, store, stored

pytestmark = pytest.mark.postgres


def test_calls_lie_in_the_partition_of_the_day_on_which_they_came(project: int, clock: Clock) -> None:
    store(Batch(project, rows=[row(project, "a")]))
    clock.day += 1
    store(Batch(project, rows=[row(project, "b")]))
    found = stored()
    assert [seq >> DAY_BITS for seq, _ in found.values()] == [TODAY, TODAY + 1]
    assert [part for _, part in found.values()] == [name_of(TODAY), name_of(TODAY + 1)]
    assert names() == ["generation_before", *(name_of(TODAY + n) for n in range(3))], "the next day's waits already"
    assert max(seq for seq, _ in found.values()) < 2**53


def test_the_same_id_on_another_day_is_a_duplicate(project: int, clock: Clock) -> None:
    assert store(Batch(project, rows=[row(project, "a"), row(project, "a")])) == [(1, 1)]
    clock.day += 1
    assert store(Batch(project, rows=[row(project, "a"), row(project, "b"), row(project, "a")])) == [(1, 2)]
    assert list(stored()) == ["a", "b"]
    with writing() as session:
        other = ensure_project(session, "other").id
    assert store(Batch(other, rows=[row(other, "a")])) == [(1, 0)]


def test_a_repeated_span_a_message_and_feedback_find_the_call_of_an_earlier_day(project: int, clock: Clock) -> None:
    store(Batch(project, rows=[row(project, "a"), row(project, "b", output=None, error="cut")]))
    clock.day += 3
    again = row(project, "a", input_tokens=7, output_tokens=3)
    told = feedback_row(FeedbackRecord(generation_id="a", name="stars", value=1), project, FULL, now_us())
    message = MessageRow(project, "b", now_us(), None, "late", 4)
    batch = Batch(project, rows=[again], fills=True, feedback=[told], messages=[message])
    assert store(batch, Batch(project, rows=[row(project, "c")])) == [(1, 1), (1, 0)]
    with reading() as session:
        calls = {call.id: call for call in session.exec(select(Generation))}
        assert (calls["a"].input_tokens, calls["a"].output_tokens) == (7, 3)
        assert calls["b"].output == "late"
        assert sum(rollup.input_tokens for rollup in session.exec(select(Rollup))) == 7
    assert [part for _, part in stored().values()] == [name_of(TODAY), name_of(TODAY), name_of(TODAY + 3)]


def test_erasing_a_user_reaches_every_day(project: int, clock: Clock) -> None:
    told = feedback_row(FeedbackRecord(generation_id="a", name="stars", value=1), project, FULL, now_us())
    store(Batch(project, rows=[row(project, "a", user_id="ana"), row(project, "b")], feedback=[told]))
    clock.day += 1
    store(Batch(project, rows=[row(project, "c", user_id="ana")]))
    assert erase_user(project, "ana") == 2
    assert list(stored()) == ["b"]
    with reading() as session:
        assert session.exec(select(Feedback)).all() == []


def test_midnight_passes_while_many_write(project: int, clock: Clock) -> None:
    writers = [Writer(engine()) for _ in range(3)]
    sent = []
    for writer in writers:
        writer.start()
    for n in range(60):
        if n == 30:
            sent[0].result()
            clock.day += 1
        made = [row(project, f"{n}-{k}") for k in range(20)]
        sent += [
            writers[n % 3].submit(Batch(project, rows=made)),
            writers[(n + 1) % 3].submit(Batch(project, rows=made)),
        ]
    outcomes = [waiting.result() for waiting in sent]
    for writer in writers:
        writer.stop()
    assert sum(outcome.accepted for outcome in outcomes) == sum(outcome.duplicates for outcome in outcomes) == 1200
    found = stored()
    assert len(found) == 1200
    assert {part for _, part in found.values()} == {name_of(TODAY), name_of(TODAY + 1)}
    with reading() as session:
        arrived = session.exec(select(Generation.received_at).order_by(Generation.seq)).all()
    assert list(arrived) == sorted(arrived), "whoever goes through calls by key meets them in their order of arrival"


def test_many_processes_open_a_day_at_once(project: int, clock: Clock, own_postgres: str) -> None:
    for _ in range(4):
        clock.day += 2  # so that none of its partitions is there
        engines = [create_engine(own_postgres) for _ in range(4)]
        together = threading.Barrier(len(engines))

        def open_one(one: Any, together: threading.Barrier = together) -> float:
            together.wait()
            return open_day(one)

        with ThreadPoolExecutor(len(engines)) as pool:
            assert all(wait == 3600 for wait in pool.map(open_one, engines))
        for one in engines:
            one.dispose()
        store(Batch(project, rows=[row(project, f"{clock.day}")]))
    assert [part for _, part in stored().values()] == [name_of(TODAY + 2 * n) for n in range(1, 5)]


@pytest.mark.parametrize("dies_at", ["within the making", "before the jump", "after the jump"])
def test_a_process_that_dies_while_it_opens_a_day_leaves_nothing_wrong(
    project: int, clock: Clock, dies_at: str
) -> None:
    store(Batch(project, rows=[row(project, "a")]))
    clock.day += 5
    make, jump = days._make.__name__, days._jump.__name__
    code = (
        "import os\n"
        "from collector import days\n"
        "from driftline.store.engine import engine\n"
        f"days.server_us = lambda _: {clock(None)}\n"
        f"make, jump = days.{make}, days.{jump}\n"
        + {
            "within the making": f"days.{make} = lambda *given: (make(*given), os._exit(9))\n",
            "before the jump": f"days.{jump} = lambda *given: os._exit(9)\n",
            "after the jump": f"days.{jump} = lambda *given: (jump(*given), os._exit(9))\n",
        }[dies_at]
        + "days.open_day(engine())\n"
    )
    died = subprocess.run([sys.executable, "-c", code], env=os.environ.copy(), check=False, timeout=60)
    assert died.returncode == 9
    assert store(Batch(project, rows=[row(project, "a"), row(project, "b")])) == [(1, 1)]
    assert stored()["b"][1] == name_of(TODAY + 5)


def test_a_day_that_cannot_be_opened_keeps_no_call_out(
    project: int, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    store(Batch(project, rows=[row(project, "a")]))
    clock.day += 5
    with engine().connect() as other:
        other.execute(text("LOCK TABLE score IN ROW EXCLUSIVE MODE"))  # as whoever writes to it for long
        assert store(Batch(project, rows=[row(project, "b")])) == [(1, 0)]
    assert "calls still go to the one before" in caplog.text
    assert stored()["b"][1] == name_of(TODAY)
    store(Batch(project, rows=[row(project, "c")]))
    assert stored()["c"][1] == name_of(TODAY + 5)


def test_a_clock_that_is_set_back_makes_no_key_smaller(project: int, clock: Clock) -> None:
    store(Batch(project, rows=[row(project, "a")]))
    clock.day -= 3
    store(Batch(project, rows=[row(project, "b")]))
    clock.day += 4
    store(Batch(project, rows=[row(project, "c")]))
    found = stored()
    assert [part for _, part in found.values()] == [name_of(TODAY), name_of(TODAY), name_of(TODAY + 1)]
    assert list(found) == ["a", "b", "c"]
    assert names()[1:] == [name_of(TODAY + n) for n in range(3)]


def spans() -> list[tuple[int, int]]:
    """First day, counted from TODAY, and length of every partition but the oldest."""
    with reading() as session:
        found = parts(session.connection())[1:]
    return [((part.first >> DAY_BITS) - TODAY, (part.end - part.first) >> DAY_BITS) for part in found]


def test_small_days_share_a_partition_and_large_ones_do_not(
    project: int, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(days, "WIDTHS", ((2**19, 1), (0, 5)))
    for n in range(20):
        few = 3 if n < 13 else 1200
        store(Batch(project, rows=[row(project, f"{n}-{k}", output="x" * 600) for k in range(few)]))
        clock.day += 1
    assert spans() == [(0, 1), (1, 1), (2, 1), (3, 5), (8, 5), (13, 5), (18, 1), (19, 1), (20, 1)]
    found = stored()
    assert {(seq >> DAY_BITS) - TODAY for seq, _ in found.values()} == set(range(20)), "the key still holds the day"
    assert [identity for identity in found if identity.endswith("-0")] == [f"{n}-0" for n in range(20)]


def test_a_wide_partition_ends_where_a_later_one_begins(
    project: int, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(days, "WIDTHS", ((0, 5),))
    for _ in range(3):
        store(Batch(project, rows=[row(project, f"{clock.day}")]))
        clock.day += 1
    with engine().begin() as connection:
        days._make(connection, TODAY + 10)  # by a process whose clock was ahead, and that died before the jump
    for _ in range(8):
        store(Batch(project, rows=[row(project, f"{clock.day}")]))
        clock.day += 1
    assert spans() == [(0, 1), (1, 1), (2, 1), (3, 5), (8, 2), (10, 5)]


def test_the_server_is_asked_once_until_its_midnight(project: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(days, "open_day", lambda _: asked.append(1) or 1e9)
    one = Days(engine())
    for _ in range(5):
        one.open()
    assert len(asked) == 1


def test_the_day_is_the_servers(project: int) -> None:
    assert 0 < open_day(engine()) <= 86_400
    with reading() as session:
        assert abs(last_key(session.connection()) - key_of(now_us() // DAY)) <= key_of(1)


def test_an_id_is_looked_up_in_one_partition(project: int, clock: Clock) -> None:
    for _ in range(4):
        clock.day += 1
        store(Batch(project, rows=[row(project, f"{clock.day}")]))
    with reading() as session:
        condition = with_ids(session.connection(), project, [f"{TODAY + 2}"])
        query = select(Generation).where(condition)
        assert [call.id for call in session.exec(query)] == [f"{TODAY + 2}"]
        connection = session.connection()
        compiled = query.compile(connection, compile_kwargs={"render_postcompile": True})
        driver: Any = connection.connection.driver_connection
        plan = driver.execute(f"EXPLAIN {compiled}", compiled.params).fetchall()
    read = {one for one in names() if any(one in line for (line,) in plan)}
    assert read == {name_of(TODAY + 2)}


def test_an_export_goes_through_all_days_in_order(
    project: int, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collector.transfer.BATCH", 2)
    for n in range(4):
        store(Batch(project, rows=[row(project, f"{n}-{k}") for k in range(3)]))
        clock.day += 1
    path = tmp_path / "all.jsonl"
    assert export_records(project, path) == 12
    ids = [json.loads(line)["id"] for line in path.read_text().splitlines()]
    assert ids == [f"{n}-{k}" for n in range(4) for k in range(3)]
    with writing() as session:
        other = ensure_project(session, "other").id
    done = import_file(path, other)
    assert (done.accepted, import_file(path, other).duplicates) == (12, 12)


@pytest.fixture
def long_history(project: int, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> int:
    """Calls of six of the last sixty days; on each some began much earlier, and one by a clock that is ahead."""
    monkeypatch.setattr("driftline.store.days.KNOWN_S", 0.0)
    today = now_us() // DAY
    for ago in (60, 45, 20, 3, 1, 0):
        clock.day = today - ago
        at = min((clock.day + 1) * DAY - SECOND, now_us())
        began = [at, at - 1, at - 10 * DAY, at - 59 * DAY, at + DAY // 2]
        made = [row(project, f"{ago}-{n}", started=moment, user_id="ana") for n, moment in enumerate(began)]
        store(Batch(project, rows=made))
    return project


def paged(session: Any, project: int, limit: int, **asked: Any) -> list[str]:
    """The ids of all pages."""
    found: list[str] = []
    cursor = None
    while True:
        look = stretches_of(session, project, limit, **asked)
        rows, cursor = keyset_page(session, LISTS["generations"], project, limit, cursor, (), look)
        found += [call.id for call in rows]
        if cursor is None:
            return found


@pytest.mark.parametrize("limit", [1, 4, 100])
def test_a_list_of_many_days_leaves_nothing_out_and_is_in_order(long_history: int, limit: int) -> None:
    with reading() as session:
        order = (col(Generation.started_at).desc(), col(Generation.seq).desc())
        expected = list(session.exec(select(Generation.id).order_by(*order)))
        assert len(expected) == 30
        assert paged(session, long_history, limit) == expected
        assert paged(session, long_history, limit, status="ok") == expected
        middle = now_us() - 20 * DAY
        before = list(session.exec(select(Generation.id).where(Generation.started_at < middle).order_by(*order)))
        found = [one for one in paged(session, long_history, limit, until=middle) if one in before]
        assert found == before


def test_what_began_since_a_moment_is_looked_for_from_its_day_on(long_history: int) -> None:
    with reading() as session:
        connection = session.connection()
        for ago in range(0, 70, 3):
            moment = now_us() - ago * DAY
            plain = set(session.exec(select(Generation.id).where(Generation.started_at >= moment)))
            assert set(session.exec(select(Generation.id).where(began_since(connection, moment)))) == plain
        assert first_key_since(connection, now_us() - 70 * DAY) == 0
        assert first_key_since(connection, now_us()) == key_of(now_us() // DAY - 2)


def test_calls_added_one_by_one_have_their_keys_too(project: int, add_call: Callable[[str], None]) -> None:
    add_call("before")
    assert stored()["before"][1] == "generation_before"
    store(Batch(project, rows=[row(project, "now"), row(project, "before")]))
    add_call("after")
    found = stored()
    assert list(found) == ["before", "now", "after"]
    assert found["after"][1] == found["now"][1]


@pytest.fixture
def add_call(project: int) -> Callable[[str], None]:
    def add(identity: str) -> None:
        from driftline.store.tables import Variant

        with writing() as session:
            variant = session.exec(select(Variant)).first() or Variant(
                project_id=project, name="v", content_hash="h", created_at=0
            )
            session.add(variant)
            session.flush()
            call = {"started_at": 0, "received_at": 0, "sample_key": 0}
            session.add(Generation(project_id=project, id=identity, variant_id=variant.id, **call))

    return add
