"""Days on PostgreSQL whose calls are all past go as a whole; what is kept, and who writes, notices nothing."""

import threading
from typing import Any

import pytest
from sqlalchemy import text
from sqlmodel import select

from collector import past_days
from collector.late import MessageRow
from collector.past_days import drop_past_days
from collector.record import FeedbackRecord
from collector.retention import forget_older
from collector.rows import feedback_row
from collector.writer import Batch, Writer
from driftline.moment import DAY, now_us
from driftline.store.days import BEFORE, PAST, is_part, name_of
from driftline.store.engine import engine, reading, writing
from driftline.store.projects import ensure_project
from driftline.store.tables import Bookmark, Feedback, Generation, Project, Score, SpanMessage, Variant
from tests.collector.days_on_postgres import FULL, TODAY, Clock, names, row, store, stored

pytestmark = pytest.mark.postgres

KEEP_DAYS = 30
OLD = 40 * DAY  # ago


def keep(name: str = "default", keep_days: int | None = KEEP_DAYS) -> int:
    """The key of a project that keeps its calls so long."""
    with writing() as session:
        found = ensure_project(session, name)
        found.keep_days = keep_days
        session.add(found)
        return found.id


def told_of(project: int, *ids: str) -> list[Any]:
    return [
        feedback_row(FeedbackRecord(generation_id=name, name="stars", value=1), project, FULL, now_us()) for name in ids
    ]


def old(project: int, *ids: str, ago: int = OLD) -> Batch:
    """Calls that began long ago."""
    return Batch(project, rows=[row(project, name, started=now_us() - ago) for name in ids])


def score_all() -> None:
    with writing() as session:
        for call in session.exec(select(Generation)).all():
            session.add(
                Score(
                    project_id=call.project_id, generation_seq=call.seq, evaluator="e", version="1", value=1.0,
                    created_at=0, arrived_at=0,
                )
            )  # fmt: skip


def left(table: Any) -> list[Any]:
    with reading() as session:
        return list(session.exec(select(table)))


def loose() -> list[str]:
    """Tables that were partitions."""
    with reading() as session:
        found = session.execute(text("SELECT relname FROM pg_class WHERE relkind = 'r' AND NOT relispartition"))
        return [name for name in found.scalars() if is_part(name)]


def two_days(project: int, clock: Clock) -> None:
    """Old calls on the first day, new ones on the second, and all that hangs on them."""
    store(old(project, "a", "b"))
    clock.day += 1
    store(Batch(project, rows=[row(project, "c")]))
    message = [MessageRow(project, name, now_us(), None, "late", 4) for name in ("a", "c")]
    store(Batch(project, feedback=told_of(project, "a", "c", "elsewhere"), messages=message))
    score_all()


def test_a_day_that_is_past_goes_with_all_that_hangs_on_it(project: int, clock: Clock) -> None:
    keep()
    two_days(project, clock)
    assert drop_past_days(now_us()) == 2
    assert names() == [BEFORE, name_of(TODAY + 1), name_of(TODAY + 2)]
    assert loose() == []
    assert list(stored()) == ["c"]
    assert {row.generation_id for row in left(Feedback)} == {"c", "elsewhere"}
    assert [row.generation_id for row in left(SpanMessage)] == ["c"]
    assert len(left(Score)) == 1
    assert left(Bookmark) == []
    assert drop_past_days(now_us()) == 0
    assert store(old(project, "a")) == [(1, 0)], "its id is free again"


@pytest.mark.parametrize("keep_days", [None, 50])
def test_a_day_that_one_project_keeps_loses_only_the_calls_of_others(
    project: int, clock: Clock, keep_days: int | None
) -> None:
    keep()
    other = keep("other", keep_days)
    store(old(project, "a"), old(other, "a", "b"))
    clock.day += 1
    store(Batch(project, rows=[row(project, "c")]))
    assert drop_past_days(now_us()) == 0
    assert forget_older(project, now_us() - KEEP_DAYS * DAY) == 1
    assert [(call.project_id, call.id) for call in left(Generation)] == [(other, "a"), (other, "b"), (project, "c")]
    assert name_of(TODAY) in names()


def test_a_day_into_which_calls_still_come_is_never_dropped(project: int, clock: Clock) -> None:
    keep()
    store(old(project, "a"))
    assert drop_past_days(now_us()) == 0
    assert forget_older(project, now_us() - KEEP_DAYS * DAY) == 1
    assert names() == [BEFORE, name_of(TODAY), name_of(TODAY + 1)]
    assert store(old(project, "a")) == [(1, 0)]


def test_a_call_of_today_keeps_its_neighbours_day(project: int, clock: Clock) -> None:
    keep()
    store(old(project, "a"), old(project, "b", ago=KEEP_DAYS * DAY - DAY))
    clock.day += 1
    store(Batch(project, rows=[row(project, "c")]))
    assert drop_past_days(now_us()) == 0
    assert drop_past_days(now_us() + 2 * DAY) == 2
    assert list(stored()) == ["c"]


def test_an_empty_day_goes_and_keys_go_on(project: int, clock: Clock) -> None:
    store(Batch(project, rows=[row(project, "a")]))
    clock.day += 3
    store(Batch(project, rows=[row(project, "b")]))
    assert drop_past_days(now_us()) == 0
    assert names() == [BEFORE, name_of(TODAY), name_of(TODAY + 3), name_of(TODAY + 4)]
    clock.day -= 3  # even back in the time of a day that went
    store(Batch(project, rows=[row(project, "c")]))
    assert stored()["c"][1] == name_of(TODAY + 3)


def test_what_came_before_days_were_counted_goes_too(project: int, clock: Clock) -> None:
    keep()
    with writing() as session:
        variant = Variant(project_id=project, name="v", content_hash="h", created_at=0)
        session.add(variant)
        session.flush()
        at = now_us() - OLD
        moments = {"started_at": at, "received_at": at, "sample_key": 0}
        session.add(Generation(project_id=project, id="a", variant_id=variant.id, **moments))
    assert drop_past_days(now_us()) == 0, "no day has begun"
    store(Batch(project, rows=[row(project, "b")]))
    assert drop_past_days(now_us()) == 1
    assert names() == [BEFORE, name_of(TODAY), name_of(TODAY + 1)]
    assert (loose(), list(stored()), drop_past_days(now_us())) == ([], ["b"], 0)


def test_many_calls_go_in_turns_and_a_turn_that_broke_off_goes_on(
    project: int, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(past_days, "STEP", 10)
    keep()
    store(old(project, *(f"a{n}" for n in range(45))))
    clock.day += 1
    store(Batch(project, rows=[row(project, "c")]))
    assert drop_past_days(now_us(), most=20) == 20
    delete_keys = past_days._delete_ids
    monkeypatch.setattr(past_days, "_delete_ids", lambda *given: (delete_keys(*given), 1 / 0))
    with pytest.raises(ZeroDivisionError):
        drop_past_days(now_us())
    monkeypatch.setattr(past_days, "_delete_ids", delete_keys)
    assert drop_past_days(now_us()) == 25
    assert list(stored()) == ["c"]


def test_a_day_that_somebody_reads_waits_and_keeps_nobody_out(
    project: int, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(past_days, "_DETACH_WAIT", "2s")
    keep()
    two_days(project, clock)
    with reading() as session:
        assert len(session.exec(select(Generation)).all()) == 3
        dropping = threading.Thread(target=drop_past_days, args=(now_us(),))
        dropping.start()
        accepted = 0
        while dropping.is_alive():
            accepted += store(Batch(project, rows=[row(project, f"w{accepted}")]))[0][0]
        assert accepted > 0, "calls were stored while the drop waited"
        assert len(session.execute(text("SELECT 1 FROM generation")).all()) == 3, "the reader sees what it saw"
        clock.day += 3
        store(Batch(project, rows=[row(project, "d")]))
        assert stored()["d"][1] == name_of(TODAY + 4), "a day begins meanwhile"
    drop_past_days(now_us())
    assert name_of(TODAY) not in names()
    assert loose() == []
    assert "a" not in stored()


def test_days_are_dropped_while_collectors_write(project: int, clock: Clock) -> None:
    keep()
    for n in range(4):
        store(old(project, *(f"{n}-{k}" for k in range(50))))
        clock.day += 1
    writers = [Writer(engine()) for _ in range(2)]
    for writer in writers:
        writer.start()
    going = threading.Event()
    outcomes: list[int] = []

    def write(writer: Writer, name: str) -> None:
        n = 0
        while not going.is_set() or n < 5:
            made = [row(project, f"{name}-{n}-{k}") for k in range(20)]
            outcomes.append(writer.submit(Batch(project, rows=made)).result().accepted)
            n += 1

    threads = [threading.Thread(target=write, args=(writer, f"w{k}")) for k, writer in enumerate(writers)]
    for thread in threads:
        thread.start()
    gone = drop_past_days(now_us())
    for _ in range(20):  # where a writer was faster
        if name_of(TODAY + 3) not in names() and not loose():
            break
        gone += drop_past_days(now_us())
    going.set()
    for thread in threads:
        thread.join()
    for writer in writers:
        writer.stop()
    assert gone == 200
    assert set(outcomes) == {20}
    assert len(stored()) == sum(outcomes)
    assert not {name_of(TODAY + n) for n in range(4)} & set(names())


def test_a_drop_that_broke_off_halfway_is_finished_by_the_next(project: int, clock: Clock) -> None:
    keep()
    two_days(project, clock)
    score_left = [score.id for score in left(Score)]
    with engine().connect().execution_options(isolation_level="AUTOCOMMIT") as alone:
        alone.execute(text("DELETE FROM score"))
        alone.execute(text(f"ALTER TABLE generation DETACH PARTITION {name_of(TODAY)}"))
        alone.execute(text(f"ALTER TABLE generation DETACH PARTITION {BEFORE}"))
    assert score_left
    assert loose() == [BEFORE, name_of(TODAY)] or loose() == [name_of(TODAY), BEFORE]
    drop_past_days(now_us())
    assert loose() == []
    assert PAST not in names()
    assert names() == [BEFORE, name_of(TODAY + 1), name_of(TODAY + 2)]
    with writing() as session:
        assert session.get_one(Project, project).keep_days == KEEP_DAYS
