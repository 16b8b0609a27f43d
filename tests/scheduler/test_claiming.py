"""Who works on a job: exactly one, and another only when that one is gone."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlmodel import Session, col, select

from driftline.moment import SECOND
from driftline.settings import settings
from driftline.store.engine import reading, writing
from driftline.store.tables import Bookmark, Job
from scheduler.work import LostJob, Work, claim_job, run_job

LEASE_S = 30.0


def test_of_many_workers_exactly_one_gets_a_job(project_on_each: int, handle: Any, ask: Any) -> None:
    job_id = ask(handle(lambda work: None))
    won: list[str] = []
    start = threading.Barrier(6)

    def contend(name: str) -> None:
        start.wait()
        if claim_job(job_id, name) is not None:
            won.append(name)

    threads = [threading.Thread(target=contend, args=(f"worker {n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    with reading() as session:
        assert session.get_one(Job, job_id).worker == won[0]


def test_a_job_delivered_twice_runs_once(project: int, handle: Any, ask: Any) -> None:
    ran: list[int] = []
    job_id = ask(handle(lambda work: ran.append(work.job_id)))
    assert [run_job(job_id), run_job(job_id)] == ["done", None]
    assert ran == [job_id]


def test_a_job_that_is_not_due_is_left_alone(project: int, time: Any, handle: Any, ask: Any) -> None:
    job_id = ask(handle(lambda work: None), due_at=time.now + 10 * SECOND)
    assert run_job(job_id) is None
    time.advance(10)
    assert run_job(job_id) == "done"


def test_a_silent_workers_job_is_taken_over_when_its_lease_has_run_out(
    project: int, time: Any, handle: Any, ask: Any, job: Callable[[int], Job]
) -> None:
    job_id = ask(handle(lambda work: None))
    first = claim_job(job_id, "first")
    time.advance(LEASE_S - 1)
    assert claim_job(job_id, "second") is None
    time.advance(2)
    second = claim_job(job_id, "second")
    assert first is not None
    assert second is not None
    assert (job(job_id).worker, job(job_id).attempt) == ("second", 2)


def keep_place(name: str, session: Session) -> None:
    session.add(Bookmark(name=name, position=1))


def places() -> list[str]:
    with reading() as session:
        return list(session.exec(select(Bookmark.name)))


def test_what_a_worker_wrote_after_losing_its_job_is_void(
    project: int, time: Any, handle: Any, ask: Any, job: Callable[[int], Job]
) -> None:
    def slow(work: Work) -> None:
        with writing() as session:
            keep_place("while it was ours", session)
            work.hold(session)
        time.advance(LEASE_S + 1)
        assert claim_job(work.job_id, "successor") is not None
        with writing() as session:
            keep_place("after it was lost", session)
            work.hold(session)

    job_id = ask(handle(slow))
    assert run_job(job_id) == "lost"
    assert places() == ["while it was ours"]
    assert (job(job_id).state, job(job_id).worker) == ("running", "successor")


@pytest.mark.parametrize("ending", ["result", "again", "later", "error"])
def test_a_worker_that_lost_its_job_cannot_end_it(
    project: int, time: Any, handle: Any, ask: Any, job: Callable[[int], Job], ending: str
) -> None:
    from driftline.errors import BadInput
    from scheduler.work import Later, TryAgain

    told: list[str] = []

    def slow(work: Work) -> Any:
        time.advance(LEASE_S + 1)
        assert claim_job(work.job_id, "successor") is not None
        match ending:
            case "again":
                raise TryAgain("the far side is busy")
            case "error":
                raise BadInput("This cannot be done.")
        return Later() if ending == "later" else {"answer": 42}

    job_id = ask(handle(slow, failed=lambda session, args, reason: told.append(reason)))
    assert run_job(job_id) == "lost"
    left = job(job_id)
    assert (left.state, left.worker, left.attempt, left.result, left.error) == ("running", "successor", 2, None, None)
    assert told == []


def test_a_cancelled_job_stops_at_its_next_step_and_stays_cancelled(
    project: int, handle: Any, ask: Any, job: Callable[[int], Job]
) -> None:
    def cancelled_meanwhile(work: Work) -> None:
        work.progress(1, 3)
        with writing() as session:
            row = session.get_one(Job, work.job_id)
            row.state = "cancelled"
            session.add(row)
        with pytest.raises(LostJob):
            work.progress(2, 3)
        work.progress(3, 3)

    job_id = ask(handle(cancelled_meanwhile))
    assert run_job(job_id) == "lost"
    assert (job(job_id).state, job(job_id).progress_done) == ("cancelled", 1)


def test_a_lease_is_renewed_as_long_as_the_work_takes(
    project: int, monkeypatch: pytest.MonkeyPatch, handle: Any, ask: Any
) -> None:
    monkeypatch.setenv("DRIFTLINE_LEASE_S", "0.3")
    settings.cache_clear()
    others: list[object] = []

    def long(work: Work) -> None:
        for _ in range(4):
            threading.Event().wait(0.2)
            others.append(claim_job(work.job_id, "other"))

    job_id = ask(handle(long))
    assert run_job(job_id) == "done"
    assert others == [None] * 4


def test_a_job_whose_workers_keep_dying_is_given_up(
    project: int, time: Any, handle: Any, ask: Any, job: Callable[[int], Job]
) -> None:
    told: list[tuple[dict[str, Any], str]] = []
    kind = handle(lambda work: None, failed=lambda session, args, reason: told.append((args, reason)))
    job_id = ask(kind, {"replay_id": 7}, max_attempts=3)
    for _ in range(3):
        assert claim_job(job_id, "doomed") is not None
        time.advance(LEASE_S + 1)
    assert run_job(job_id) is None
    assert job(job_id).state == "failed"
    assert told == [({"replay_id": 7}, "Its workers died or failed 3 times.")]


def test_two_jobs_of_one_name_are_one_until_the_first_has_ended(project_on_each: int, handle: Any, ask: Any) -> None:
    kind = handle(lambda work: None)
    first = ask(kind, dedup_key="check:1")
    assert ask(kind, dedup_key="check:1") == first
    assert run_job(first) == "done"
    second = ask(kind, dedup_key="check:1")
    assert second != first


def test_two_people_who_ask_for_the_same_at_once_get_the_same_job(project_on_each: int, handle: Any, ask: Any) -> None:
    kind = handle(lambda work: None)
    start = threading.Barrier(4)
    given: list[int] = []

    def click() -> None:
        start.wait()
        given.append(ask(kind, dedup_key="build:1"))

    threads = [threading.Thread(target=click) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(given) == 4
    with reading() as session:
        assert session.exec(select(Job.id).where(col(Job.dedup_key) == "build:1")).all() == [given[0]]
    assert set(given) == {given[0]}
