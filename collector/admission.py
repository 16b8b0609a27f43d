"""Who may send, and what is kept of their texts: one cached answer a request."""

import asyncio
import time
from dataclasses import dataclass

from sqlalchemy.exc import OperationalError

from collector.rows import Privacy
from driftline.access import identify
from driftline.store.engine import explain_failure, reading
from driftline.store.tables import Project

FRESH_S = 2.0  # how long an answer is believed without asking again
_ROOM = 10_000


@dataclass(frozen=True, slots=True)
class Sender:
    """The project a request writes to, and its rule for texts."""

    project_id: int
    privacy: Privacy


class Admission:
    """Remembers senders by the header they show, so that most requests ask neither the store nor a thread."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, Sender]] = {}

    async def admit(self, authorization: str | None) -> Sender:
        """The sender behind an Authorization header.

        Raises:
            Unauthenticated, Forbidden: The key is missing, unknown, revoked, or may not write.
            StoreUnavailable: The store does not answer.
        """
        name = authorization or ""
        known = self._known.get(name)
        now = time.monotonic()
        if known is not None and now < known[0]:
            return known[1]
        sender = await asyncio.to_thread(_look_up, authorization)
        if len(self._known) >= _ROOM:
            self._known.clear()
        self._known[name] = (now + FRESH_S, sender)
        return sender


def _look_up(authorization: str | None) -> Sender:
    try:
        caller = identify(authorization, "ingest")
        with reading() as session:
            project = session.get_one(Project, caller.project_id)
            return Sender(project.id, Privacy(project.store_text))
    except OperationalError as error:
        raise explain_failure(error) from None
