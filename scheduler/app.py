"""The worker: a Celery application with one task per row of the table, each of which runs a Job."""

import logging
import os
from collections.abc import Callable, Sequence

from celery import Celery

from driftline.queue import BrokerUnavailable, configuration, reach_broker
from driftline.store.tables import QUEUES
from scheduler.selfwatch import SelfWatch
from scheduler.tasks import TASKS
from scheduler.work import run_job


def application() -> Celery:
    """A Celery application that knows every task by its kind; a task's one argument is the job's id."""
    app = Celery("driftline")
    app.conf.update(configuration())
    for kind in TASKS:
        app.task(_fresh(), name=kind, ignore_result=True)
    return app


def _fresh() -> Callable[[int], None]:
    def run(job_id: int) -> None:
        run_job(job_id)

    return run  # a function of its own per task: Celery keeps a task's name on it


def run_worker(queues: Sequence[str] = QUEUES, concurrency: int = 1, name: str = "worker") -> int:
    """Works on the queues until told to stop (SIGTERM or Ctrl-C: the job in hand is finished first).

    With `concurrency` 1 jobs run in this process, so that a loaded model is used again; above, in child processes, or,
    where no models are held (the queues `notify` and `drift`), in threads, so that a channel that hangs delays no
    other and a report that takes long delays no check. A broker that is away is waited for.

    Raises:
        BrokerUnavailable: The broker refuses the connection.
    """
    try:
        reach_broker()
    except BrokerUnavailable as error:
        if error.refuses:
            raise
        logging.getLogger("driftline.work").warning("%s Waiting for it.", error.message)
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    logging.getLogger("driftline").setLevel(logging.INFO)
    if "notify" in queues:
        SelfWatch(looks_at_clock=True).watch()
    kind = "threads" if set(queues) <= {"notify", "drift"} else "prefork"
    pool = ["--pool=solo"] if concurrency == 1 else [f"--pool={kind}", f"--concurrency={concurrency}"]
    application().worker_main(
        ["worker", *pool, "--queues", ",".join(queues), "--hostname", f"{name}@%h", "--loglevel", "WARNING",
         "--without-gossip", "--without-mingle", "--without-heartbeat"]
    )  # fmt: skip
    return 0
