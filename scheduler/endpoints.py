"""How many workers ask one endpoint at a time: places, each a lease that a worker holds while it asks."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import insert, or_, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import col

from driftline.moment import SECOND, now_us
from driftline.settings import settings
from driftline.store.claims import claim
from driftline.store.engine import writing
from driftline.store.hashing import content_hash
from driftline.store.tables import Lease
from scheduler.work import Work

LONGEST_S = 900  # no turn of a replay takes longer; a place held for more belongs to a worker that is gone


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A remote model's server, and how many workers may ask it at once; each sends as many requests as its runner."""

    name: str
    slots: int

    @classmethod
    def of(cls, spec: dict[str, Any]) -> "Endpoint | None":
        """The endpoint a variant asks; None where it asks none, or no limit is set."""
        base_url = spec.get("runner_config", {}).get("base_url")
        slots = settings().endpoint_workers
        return cls(urlsplit(base_url).netloc, slots) if base_url and slots else None

    def enter(self, work: Work) -> bool:
        """Whether the job has a place now; taken where one is free."""
        self.leave(work)  # a place that an earlier attempt, killed since, still holds
        return any(self._taken(number, work) for number in range(self.slots))

    def leave(self, work: Work) -> None:
        """Gives the place to whoever waits."""
        with writing() as session:
            mine = (col(Lease.name).in_(self._names()), col(Lease.owner) == self._owner(work))
            session.connection().execute(update(Lease).where(*mine).values(until=0, owner=""))

    def _names(self) -> list[str]:
        return [f"endpoint:{content_hash(self.name)[:16]}:{number}" for number in range(self.slots)]

    def _owner(self, work: Work) -> str:
        return f"job:{work.job_id}"

    def _until(self) -> int:
        return now_us() + LONGEST_S * SECOND

    def _taken(self, number: int, work: Work) -> bool:
        name, owner = self._names()[number], self._owner(work)
        with writing() as session:
            free = or_(col(Lease.until) < now_us(), col(Lease.owner) == owner)
            if claim(session, Lease, Lease.name == name, free, owner=owner, until=self._until()):
                return True
        try:
            with writing() as session:
                session.connection().execute(insert(Lease).values(name=name, owner=owner, until=self._until()))
        except IntegrityError:
            return False  # somebody holds it
        return True
