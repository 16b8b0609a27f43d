"""Watching a job from the command line: a progress bar, and a word when no worker seems to run."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

from sqlmodel import Session

from driftline.acts.replays import shared_scorers
from driftline.errors import DriftlineError
from driftline.moment import SECOND, now_us
from driftline.store.engine import reading
from driftline.store.tables import Job, Process, Replay

POLL_S = 0.25
SWEEP_S = 1.0  # who waits sends again what nobody heard, as the clock does, so that a worker alone is enough
PATIENCE_S = 15.0
SIDES = ("candidate", "baseline")

Row = TypeVar("Row", Job, Replay)


@dataclass(frozen=True, slots=True)
class Look(Generic[Row]):
    """A row as it is now: `waits` while no worker has begun it, `total` None while nobody knows."""

    row: Row
    state: str
    waits: bool
    done: int
    total: int | None


def wait_for_job(job_id: int, title: str, *, quiet: bool, total: int | None = None) -> Job:
    """The job, once it has ended. `total` is shown as what is to be done until the job says so itself.

    Raises:
        DriftlineError: No worker has shown itself while the job waited.
    """

    def look(session: Session) -> Look[Job]:
        job = session.get_one(Job, job_id)
        waits = job.state == "queued" and job.attempt == 0
        return Look(job, job.state, waits, job.progress_done, job.progress_total or total)

    return _watched(look, title, quiet)


def wait_for_comparison(replay_id: int, title: str, *, quiet: bool) -> None:
    """Returns once the replay has been compared with its baseline, and anew where the baseline was renewed.

    What it waits for is shown by its own measure: the baseline's items first, then the scorers that are compared.

    Raises:
        DriftlineError: It could not be; says why.
    """
    from sqlmodel import col, select

    of_replay = select(Job).where(Job.kind == "comparison.make", Job.subject == f"replay:{replay_id}")
    newest: Job | None = None
    while True:
        with reading() as session:
            job = session.exec(of_replay.order_by(col(Job.id).desc())).first()
        if job is None or (newest is not None and job.id == newest.id):
            break
        newest = wait_for_job(job.id, title, quiet=quiet, total=_wait_for_sides(job, quiet))
    if newest is None or newest.state != "done":
        raise DriftlineError(f"The comparison could not be made: {newest.error if newest else 'nobody asked for it'}")


def _wait_for_sides(job: Job, quiet: bool) -> int | None:
    """How many scorers a comparison will compare, once the replays it needs have ended."""
    for key, title in (("canary_replay_id", "Asking the baseline again"), ("baseline_replay_id", "Replaying baseline")):
        if job.state == "queued" and job.args.get(key) is not None:
            wait_for_replay(job.args[key], title, quiet=quiet)
    with reading() as session:
        candidate, baseline = (session.get(Replay, job.args.get(f"{side}_replay_id", 0)) for side in SIDES)
    return len(shared_scorers(candidate, baseline)) if candidate and baseline else None


def wait_for_replay(replay_id: int, title: str, *, quiet: bool) -> Replay:
    """The replay, once it has ended.

    Raises:
        DriftlineError: No worker has shown itself while it waited.
    """

    def look(session: Session) -> Look[Replay]:
        row = session.get_one(Replay, replay_id)
        return Look(row, row.state, row.state == "queued", row.calls // row.repeats + row.reused, row.n_items)

    return _watched(look, title, quiet)


def _watched(look: Callable[[Session], Look[Row]], title: str, quiet: bool) -> Row:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    asked = swept = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=quiet) as bars:
        bar = bars.add_task(title, total=None)
        while True:
            with reading() as session:
                seen = look(session)
            bars.update(bar, completed=seen.done, total=seen.total)
            if seen.state in ("done", "failed", "cancelled"):
                return seen.row
            if seen.waits and time.monotonic() - asked > PATIENCE_S:
                _raise_without_workers()
            if time.monotonic() - swept > SWEEP_S:
                swept = time.monotonic()
                _sweep()
            time.sleep(POLL_S)


def _sweep() -> None:
    from sqlalchemy.exc import OperationalError

    from driftline.store.engine import writing
    from scheduler.sweep import sweep

    with suppress(OperationalError), writing() as session:  # a store that is busy now is asked again in a second
        sweep(session)


def _raise_without_workers() -> None:
    from sqlmodel import col, select

    with reading() as session:
        recent = select(Process.id).where(
            col(Process.name).startswith("worker"), Process.seen_at > now_us() - 30 * SECOND
        )
        if session.exec(recent).first() is None:
            raise DriftlineError(
                "The job is queued, but no worker runs. "
                "Start one with `driftline up` or `driftline work`; the job waits for it."
            )
