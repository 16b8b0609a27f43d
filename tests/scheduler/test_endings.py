"""How a job ends: done, called again later, tried again with a growing pause, or failed for good and told."""

import sqlite3
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError
from sqlmodel import Session

from driftline.errors import BadInput, StoreUnavailable
from driftline.moment import SECOND
from driftline.store.tables import Bookmark, Job
from scheduler.work import Later, TryAgain, Work, run_job


def raising(error: Exception) -> Callable[[Work], None]:
    def run(work: Work) -> None:
        raise error

    return run


def test_a_done_job_keeps_its_result_and_frees_its_name(
    project: int, handle: Any, ask: Any, job: Callable[[int], Job]
) -> None:
    job_id = ask(handle(lambda work: {"answer": 42}), dedup_key="the answer")
    assert run_job(job_id) == "done"
    left = job(job_id)
    assert (left.result, left.dedup_key, left.worker, left.lease_until) == ({"answer": 42}, None, None, None)
    assert left.finished_at is not None


def test_a_done_routine_job_leaves_no_row(project: int, handle: Any, ask: Any, everything: Callable[[], str]) -> None:
    kind = handle(lambda work: {}, routine=True)
    assert run_job(ask(kind)) == "done"
    assert kind not in everything()


def test_called_again_later_is_no_attempt(
    project: int, time: Any, handle: Any, ask: Any, job: Callable[[int], Job]
) -> None:
    turns: list[int] = []

    def waits(work: Work) -> Later | None:
        turns.append(work.attempt)
        return Later(2.0, "waiting for a build") if len(turns) < 50 else None

    job_id = ask(handle(waits), max_attempts=2)
    assert run_job(job_id) == "queued"
    assert (job(job_id).note, job(job_id).due_at) == ("waiting for a build", time.now + 2 * SECOND)
    assert run_job(job_id) is None
    while job(job_id).state == "queued":
        time.advance(2)
        run_job(job_id)
    assert job(job_id).state == "done"
    assert turns == [1] * 50


def test_what_the_far_side_refuses_for_now_is_tried_again_after_doubling_pauses(
    project: int, time: Any, handle: Any, ask: Any, job: Callable[[int], Job]
) -> None:
    job_id = ask(handle(raising(TryAgain("busy"))), max_attempts=5)
    pauses = []
    for _ in range(4):
        assert run_job(job_id) == "queued"
        pauses.append((job(job_id).due_at - time.now) / SECOND)
        assert job(job_id).error == "busy"
        time.now = job(job_id).due_at
    assert pauses == [2, 4, 8, 16]
    assert run_job(job_id) == "failed"


def test_a_pause_that_the_far_side_names_is_kept(
    project: int, time: Any, handle: Any, ask: Any, job: Callable[[int], Job]
) -> None:
    job_id = ask(handle(raising(TryAgain("busy", 70.0))))
    run_job(job_id)
    assert job(job_id).due_at == time.now + 70 * SECOND


def test_the_pause_grows_no_longer_than_five_minutes(
    project: int, time: Any, handle: Any, ask: Any, job: Callable[[int], Job]
) -> None:
    job_id = ask(handle(raising(TryAgain("busy"))), max_attempts=30)
    for _ in range(20):
        run_job(job_id)
        pause, time.now = job(job_id).due_at - time.now, job(job_id).due_at
    assert pause == 300 * SECOND


def test_what_an_operator_must_mend_fails_at_once_with_its_sentence_and_is_told(
    project_on_each: int, handle: Any, ask: Any, job: Callable[[int], Job]
) -> None:
    def write_down(session: Session, args: dict[str, Any], reason: str) -> None:
        session.add(Bookmark(name=f"{args['name']}: {reason}"))

    job_id = ask(handle(raising(BadInput("There is no such file.")), failed=write_down), {"name": "int8"})
    assert run_job(job_id) == "failed"
    assert (job(job_id).error, job(job_id).attempt) == ("There is no such file.", 1)
    from driftline.store.engine import reading

    with reading() as session:
        assert session.get(Bookmark, "int8: There is no such file.") is not None


def test_an_error_nobody_named_is_tried_three_times_and_keeps_its_traceback(
    project: int, time: Any, handle: Any, ask: Any, job: Callable[[int], Job], caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []
    kind = handle(raising(ZeroDivisionError("oh")), failed=lambda session, args, reason: told.append(reason))
    job_id = ask(kind, max_attempts=20)
    for expected in ("queued", "queued", "failed"):
        assert run_job(job_id) == expected
        time.advance(60)
    assert "ZeroDivisionError: oh" in (job(job_id).error or "")
    assert len(told) == 1


@pytest.mark.parametrize(
    "gone",
    [
        StoreUnavailable("The database does not answer."),
        OperationalError("SELECT 1", {}, sqlite3.OperationalError("database is locked")),
    ],
)
def test_a_database_that_is_away_for_a_while_is_no_defect_of_the_job(
    project: int, time: Any, handle: Any, ask: Any, job: Callable[[int], Job], gone: Exception
) -> None:
    job_id = ask(handle(raising(gone)), max_attempts=20)
    for _ in range(6):
        assert run_job(job_id) == "queued"
        time.advance(300)
    assert job(job_id).state == "queued"


def test_a_job_of_a_kind_this_version_does_not_know_fails_with_a_sentence(
    project: int, ask: Any, job: Callable[[int], Job]
) -> None:
    job_id = ask("variant.polish")
    assert run_job(job_id) == "failed"
    assert job(job_id).error == "This version of Driftline knows no job variant.polish."


def test_a_job_ends_also_when_what_follows_its_failure_cannot_be_done(
    project: int, handle: Any, ask: Any, job: Callable[[int], Job]
) -> None:
    def follow(session: Session, args: dict[str, Any], reason: str) -> None:
        raise RuntimeError("no such variant")

    job_id = ask(handle(raising(BadInput("The golden set is empty.")), failed=follow), dedup_key="once")
    assert run_job(job_id) == "failed"
    left = job(job_id)
    assert (left.state, left.dedup_key, left.worker) == ("failed", None, None)
    assert left.error is not None
    assert left.error.startswith("The golden set is empty.")
    assert "no such variant" in left.error
