"""Work that nobody does is found: a lost message is sent again, a dead worker's job is set free."""

import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from driftline.moment import SECOND
from driftline.queue import messages_held
from driftline.store.engine import writing
from driftline.store.tables import Job
from scheduler.sweep import RESEND_AFTER_S, sweep
from scheduler.work import claim_job, run_job

LEASE_S = 30.0
HOST = socket.gethostname()


@pytest.fixture
def messages(data_dir: Path) -> Callable[[], int]:
    """How many messages lie in the embedded broker's queue `drift`; takes them away, as a broker that crashes does."""

    def lose() -> int:
        found = list((data_dir / "broker" / "drift").glob("[0-9]*"))
        for message in found:
            message.unlink()
        return len(found)

    return lose


def swept() -> int:
    with writing() as session:
        return sweep(session)


def swept_knowing() -> int:
    """As the clock does: knowing how many messages wait."""
    held = messages_held()
    with writing() as session:
        return sweep(session, held)


@pytest.fixture
def dead_worker() -> str:
    """The name of a worker of this machine that has ended."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    return f"{HOST}:{ended.pid}"


def test_a_lost_message_is_sent_again_at_doubling_intervals(
    project: int, time: Any, handle: Any, ask: Any, messages: Callable[[], int]
) -> None:
    ask(handle(lambda work: None))
    assert messages() == 1
    sent_after = []
    for second in range(1, 200):
        time.advance(1)
        if swept():
            sent_after.append(second)
    assert sent_after == [5, 10, 20, 40, 80, 160]
    assert messages() == len(sent_after)


def test_messages_that_are_lost_again_and_again_are_sent_each_time_as_soon(
    project: int, time: Any, handle: Any, ask: Any, messages: Callable[[], int]
) -> None:
    kind = handle(lambda work: None)
    for _ in range(3):
        ask(kind)
    for _ in range(40):
        assert messages() == 3  # a worker that is killed takes along what it had fetched
        time.advance(RESEND_AFTER_S)
        assert swept_knowing() == 3


def test_where_a_queue_holds_fewer_messages_than_jobs_wait_the_difference_is_sent_and_no_more(
    project: int, time: Any, handle: Any, ask: Any, data_dir: Path
) -> None:
    kind = handle(lambda work: None)
    ids = [ask(kind) for _ in range(3)]
    time.advance(100)
    assert swept_knowing() == 3
    for message in sorted((data_dir / "broker" / "drift").glob("[0-9]*"))[:5]:
        message.unlink()
    time.advance(RESEND_AFTER_S - 1)
    assert swept_knowing() == 0, "a worker may have them in hand"
    time.advance(1)
    assert swept_knowing() == 2
    with writing() as session:
        again = [key for key in ids if session.get_one(Job, key).sent_at == time.now]
    assert again == ids[:2], "what was sent first is lost first"
    time.advance(RESEND_AFTER_S)
    assert swept_knowing() == 0, "three messages wait for three jobs"


def test_a_job_for_later_is_sent_when_it_is_due_and_not_before(
    project: int, time: Any, handle: Any, ask: Any, messages: Callable[[], int]
) -> None:
    ask(handle(lambda work: None), due_at=time.now + 60 * SECOND)
    assert messages() == 0
    time.advance(59)
    assert swept() == 0
    time.advance(1)
    assert swept() == 1
    assert messages() == 1


def test_a_done_or_running_job_is_not_sent(project: int, time: Any, handle: Any, ask: Any) -> None:
    kind = handle(lambda work: None)
    run_job(ask(kind))
    assert claim_job(ask(kind), "elsewhere:1") is not None
    time.advance(LEASE_S - 1)
    assert swept() == 0


def test_the_job_of_a_dead_worker_of_this_machine_is_free_at_once(
    project_on_each: int, time: Any, handle: Any, ask: Any, dead_worker: str
) -> None:
    job_id = ask(handle(lambda work: None))
    assert claim_job(job_id, dead_worker) is not None
    time.advance(1)
    assert claim_job(job_id, "other") is None
    assert swept() == 1
    time.advance(0.001)
    assert swept() == 0, "once is enough"
    time.advance(0.001)
    assert run_job(job_id) == "done"


def test_the_job_of_a_living_worker_keeps_its_lease(project: int, time: Any, handle: Any, ask: Any) -> None:
    job_id = ask(handle(lambda work: None))
    assert claim_job(job_id, f"{HOST}:{os.getpid()}") is not None
    time.advance(1)
    assert swept() == 0
    assert claim_job(job_id, "other") is None


def test_a_worker_of_another_machine_has_until_its_lease_ends(
    project: int, time: Any, handle: Any, ask: Any, dead_worker: str, messages: Callable[[], int]
) -> None:
    job_id = ask(handle(lambda work: None))
    assert claim_job(job_id, dead_worker.replace(HOST, "another-machine")) is not None
    messages()
    time.advance(LEASE_S - 1)
    assert swept() == 0
    time.advance(2)
    assert swept() == 1
    assert messages() == 1


def test_a_job_that_waited_long_and_lost_its_worker_is_sent_as_soon_as_its_lease_has_ended(
    project: int, time: Any, handle: Any, ask: Any, messages: Callable[[], int]
) -> None:
    job_id = ask(handle(lambda work: None))
    time.advance(3600)
    assert swept() == 1
    time.advance(600)
    assert claim_job(job_id, "another-machine:1") is not None
    time.advance(LEASE_S + 1)
    assert swept() == 1


def test_a_lost_message_is_found_behind_hundreds_of_jobs_that_wait_their_turn(
    project: int, time: Any, handle: Any, ask: Any, messages: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    from scheduler import sweep as module

    monkeypatch.setattr(module, "BATCH", 20)
    kind = handle(lambda work: None)
    for _ in range(25):
        ask(kind)
    time.advance(RESEND_AFTER_S)
    assert [swept(), swept(), swept()] == [20, 5, 0]
    job_id = ask(kind)
    messages()
    time.advance(RESEND_AFTER_S - 1)
    assert swept() == 0
    time.advance(1)
    assert [swept(), swept()] == [20, 6]
    with writing() as session:
        assert session.get_one(Job, job_id).sent_at == time.now


def test_two_clocks_that_sweep_at_once_send_one_message(
    project: int, time: Any, handle: Any, ask: Any, messages: Callable[[], int]
) -> None:
    ask(handle(lambda work: None))
    messages()
    time.advance(RESEND_AFTER_S)
    assert swept() + swept() == 1
    assert messages() == 1


def test_the_broker_is_asked_only_while_a_job_waits_in_silence(
    project: int, time: Any, handle: Any, ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scheduler import clock

    asked = []
    monkeypatch.setattr(clock, "messages_held", lambda: asked.append(1) or {})
    ticking = clock.Clock()
    ticking.tick()
    ask(handle(lambda work: None))
    ticking.tick()
    assert not asked
    time.advance(RESEND_AFTER_S)
    ticking.tick()
    assert asked == [1]
