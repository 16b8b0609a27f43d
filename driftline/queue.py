"""Asking for work: a Job row in the caller's transaction, and a message by name once that has committed.

The message is only a hint. If it is lost, or the broker is away, the scheduler's sweeper sends it again.
"""

import importlib.util
import logging
from contextlib import suppress
from functools import lru_cache
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError
from sqlalchemy import event
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, select

from driftline import embedded
from driftline.errors import BadInput, DriftlineError, MissingPackage
from driftline.moment import now_us
from driftline.settings import settings
from driftline.store.engine import make_folder
from driftline.store.tables import QUEUES, Job

log = logging.getLogger("driftline.queue")
_TO_SEND = "driftline jobs to send"

BROKERS = ("amqp", "amqps", "pyamqp", "redis", "rediss", "sentinel")


def request(
    session: Session,
    kind: str,
    queue: str,
    args: dict[str, Any],
    *,
    project_id: int | None = None,
    subject: str = "",
    dedup_key: str | None = None,
    due_at: int | None = None,
    max_attempts: int = 5,
    total: int = 0,
) -> Job:
    """A job of this kind; sent when the session commits.

    With a `dedup_key`, an unfinished job of that key is returned instead of a second one.
    """
    assert queue in QUEUES, queue
    now = now_us()
    job = Job(
        project_id=project_id, kind=kind, queue=queue, subject=subject, dedup_key=dedup_key, args=args,
        due_at=due_at or now, sent_at=now, max_attempts=max_attempts, progress_total=total, created_at=now,
    )  # fmt: skip
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    insert = dialect.insert(Job).values(job.model_dump(exclude={"id"}))
    while True:
        # Of two transactions that ask at once the second waits here for the first, then finds its job, unless that
        # has ended meanwhile.
        made = session.connection().scalar(insert.on_conflict_do_nothing().returning(Job.id))
        if made is not None:
            break
        known = session.exec(select(Job).where(Job.dedup_key == dedup_key)).first()
        if known is not None:
            return known
    job = session.get_one(Job, made)
    if job.due_at <= now:
        send_after_commit(session, job)
    return job


def send_after_commit(session: Session, job: Job) -> None:
    """Sends the job's message when the session commits, and never when it rolls back."""
    waiting = session.info.setdefault(_TO_SEND, [])
    if not waiting:
        event.listen(session, "after_commit", _send_waiting, once=True)
        event.listen(session, "after_rollback", _forget_waiting, once=True)
    waiting.append((job.kind, job.queue, job.id))


def _send_waiting(session: Session) -> None:
    for kind, queue, job_id in session.info.pop(_TO_SEND, []):
        if not send(kind, queue, job_id):
            return  # the broker is away: the caller need not wait for it once per message


def _forget_waiting(session: Session) -> None:
    session.info.pop(_TO_SEND, None)


def send(kind: str, queue: str, job_id: int) -> bool:
    """Puts the hint on the broker; False when the broker does not take it (the sweeper tries again)."""
    try:
        messenger().send_task(kind, args=(job_id,), queue=queue, retry=False, ignore_result=True)
    except _failures() as error:
        log.warning("The broker did not take job %s (%s): %s. It will be sent again.", job_id, kind, error)
        return False
    return True


def messages_held() -> dict[str, int]:
    """How many messages wait in each queue of the broker; none named where the broker does not answer."""
    held: dict[str, int] = {}
    try:
        with messenger().connection_for_write(connect_timeout=3.0) as connection:
            for queue in QUEUES:
                held[queue] = _length(connection, queue)
    except _failures() as error:
        log.warning("The broker does not say how many messages it holds: %s", error)
        return {}
    return held


def _length(connection: Any, queue: str) -> int:
    channel = connection.channel()  # one each: a server closes the channel that asks for a queue it does not know
    try:
        return int(channel.queue_declare(queue, passive=True).message_count)
    except connection.channel_errors:
        return 0
    finally:
        with suppress(*_failures()):
            channel.close()


class BrokerUnavailable(DriftlineError):
    """The broker does not answer, or `refuses` who asks: then waiting does not help."""

    status = 503

    def __init__(self, error: BaseException) -> None:
        self.refuses = not isinstance(error, OperationalError | OSError)
        said = "refuses the connection" if self.refuses else "does not answer"
        what = "its user, password and virtual host" if self.refuses else "the server"
        super().__init__(f"The broker {said}: {error}. Check DRIFTLINE_BROKER_URL and {what}.")


def reach_broker(timeout_s: float = 3.0) -> str:
    """The broker's address without its password, once it has answered.

    Raises:
        BrokerUnavailable: It does not answer within the seconds, or refuses.
    """
    with messenger().connection_for_write(connect_timeout=timeout_s) as connection:
        try:
            connection.ensure_connection(max_retries=1, timeout=timeout_s)
        except _failures() as error:
            raise BrokerUnavailable(error) from None
        return str(connection.as_uri())


def _failures() -> tuple[type[BaseException], ...]:
    """What the clients of the broker in use raise when it is away or refuses: not all of it is kombu's own."""
    connection = messenger().connection_for_write()
    known = (OperationalError, OSError, *connection.connection_errors, *connection.channel_errors)
    return tuple(kind for kind in known if not issubclass(kind, LookupError))  # a KeyError is a defect of ours


@lru_cache(maxsize=1)
def messenger() -> Celery:
    """The Celery application of this process: sends by name, knows no task's code."""
    app = Celery("driftline", set_as_current=False)
    app.conf.update(configuration())
    app.conf.broker_transport_options |= {"max_retries": 1, "interval_start": 0.1, "interval_step": 0.0}
    return app


def configuration() -> dict[str, Any]:
    """Celery's settings for the broker in use.

    Prefetch is 1 and acknowledgement early: the Job row, not the broker, knows whether work was done. So no broker's
    own limits matter: a redelivery finds the row claimed, a lost message is sent again by the sweeper.

    Raises:
        BadInput: The broker's URL is of no kind that is known.
        MissingPackage: It needs a package that is not installed.
    """
    common: dict[str, Any] = {
        "task_ignore_result": True,
        "task_acks_late": False,
        "worker_prefetch_multiplier": 1,
        "worker_enable_remote_control": False,
        "worker_send_task_events": False,
        "broker_connection_retry_on_startup": True,
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_create_missing_queues": True,
        "worker_hijack_root_logger": False,
        "timezone": "UTC",
        "broker_connection_timeout": 4,
        "broker_transport_options": {},
    }
    chosen = settings()
    if not chosen.embedded_broker:
        _check_broker(chosen.broker_url)
        return common | {"broker_url": chosen.broker_url}
    folder = chosen.data_dir.absolute() / "broker"
    make_folder(folder)
    embedded.register()
    return common | {
        "broker_url": f"{embedded.NAME}://localhost",
        "broker_transport_options": {"folder": str(folder), "polling_interval": 0.1},
    }


def _check_broker(url: str) -> None:
    scheme = url.partition("://")[0].partition("+")[0]
    if scheme not in BROKERS or "://" not in url:
        raise BadInput(
            f"DRIFTLINE_BROKER_URL begins with none of {', '.join(f'{name}://' for name in BROKERS)}. "
            "Leave it empty for the embedded broker."
        )
    if scheme.startswith("redis") and importlib.util.find_spec("redis") is None:
        raise MissingPackage("redis", "A Redis broker", "pip install 'driftline[redis]'")
