"""Who may send, and what is kept of their texts: one cached answer a request."""

import asyncio
import time

from sqlalchemy.exc import IntegrityError, OperationalError
from sqlmodel import Session, col, func, or_, select

from collector.rows import Privacy
from collector.sender import Sender
from driftline.access import identify
from driftline.moment import SECOND, now_us
from driftline.store.engine import explain_failure, reading
from driftline.store.tables import Process, Project

FRESH_S = 2.0  # how long an answer is believed without asking again
LIVING_S = 15.0  # processes sign every five seconds
_ROOM = 10_000


class Admission:
    """Remembers senders by the header they show, so that most requests ask neither the store nor a thread."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, Sender]] = {}
        self._asking = asyncio.Lock()

    async def admit(self, authorization: str | None) -> Sender:
        """The sender behind an Authorization header.

        Raises:
            Unauthenticated, Forbidden: The key is missing, unknown, revoked, or may not write.
            StoreUnavailable: The store does not answer.
        """
        sender = self._remembered(authorization)
        if sender is None:
            async with self._asking:  # a crowd with the same key asks once
                sender = self._remembered(authorization)
                if sender is None:
                    sender = await asyncio.to_thread(_look_up, authorization)
                    if len(self._known) >= _ROOM:
                        self._known.clear()
                    self._known[authorization or ""] = (time.monotonic() + FRESH_S, sender)
        return sender

    def _remembered(self, authorization: str | None) -> Sender | None:
        until, sender = self._known.get(authorization or "", (0.0, None))
        return sender if time.monotonic() < until else None


def _look_up(authorization: str | None) -> Sender:
    try:
        try:
            caller = identify(authorization, "ingest")
        except IntegrityError:  # another process made the default project at the same moment
            caller = identify(authorization, "ingest")
        with reading() as session:
            project = session.get_one(Project, caller.project_id)
            sharing = 1 if caller.calls_per_minute is None else _living(session)
            return Sender(project.id, Privacy(project.store_text), caller.name, caller.calls_per_minute, sharing)
    except OperationalError as error:
        raise explain_failure(error) from None


def _living(session: Session) -> int:
    """How many collectors have signed of late, this one among them if it is no test."""
    name = col(Process.name)
    signed = select(func.count()).where(
        or_(name.startswith("collect"), name.startswith("web")), Process.pid != 0,
        Process.seen_at > now_us() - int(LIVING_S * SECOND),
    )  # fmt: skip
    return max(1, session.exec(signed).one())
