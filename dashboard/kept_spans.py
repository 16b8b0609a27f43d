"""What is kept of traffic that was added up before: spans whose Rollups are the same rows still are not read again."""

from collections import OrderedDict
from collections.abc import Mapping
from threading import Lock
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy import text
from sqlmodel import Session

T = TypeVar("T")
MOST = 5_000  # points that a process keeps, of all projects together; with their sketches some 7 kB each
Mark = tuple[int, int, int]
# Written out, as building them would take as long as they do. SQLite takes minutes in the order of the index first,
# else it sorts all rows; PostgreSQL hashes.
_MARKS = {
    "sqlite": text(
        "SELECT minute - minute % :step AS at, sum(n), max(newest), sum(total) FROM ("
        "SELECT minute, count(*) AS n, max(id) AS newest, sum(id) AS total FROM rollup "
        "WHERE project_id = :project AND minute >= :since AND minute < :until GROUP BY minute) GROUP BY at ORDER BY at"
    ),
    "postgresql": text(
        "SELECT minute - minute % CAST(:step AS bigint) AS at, count(*), max(id), sum(id) FROM rollup "
        "WHERE project_id = :project AND minute >= :since AND minute < :until GROUP BY at ORDER BY at"
    ),
}


def marks(session: Session, project_id: int, since: int, until: int, step: int) -> dict[int, Mark]:
    """What tells whether the Rollups of a span are still the same rows, by the span's start; oldest first.

    Rows are added with growing numbers, never changed, and taken away only as others with new numbers take their place
    (`collector.folding`): the same count, newest number and sum of numbers are the same rows. The index on minutes
    answers it on SQLite.
    """
    of_store = _MARKS[session.connection().dialect.name]
    told = {"project": project_id, "since": since, "until": until, "step": step}
    rows = session.connection().execute(of_store, told).all()
    return {int(start): (int(n), int(newest), int(total)) for start, n, newest, total in rows}


class KeptSpans(Generic[T]):
    """The newest asked points of each question, by span, as long as the span's mark stays.

    Each database has its own; threads may share it. A question is any hashable value; a span may hold several points.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._lock = Lock()
        self._of_store: WeakKeyDictionary[Any, OrderedDict[Any, dict[int, tuple[Mark, list[T]]]]] = WeakKeyDictionary()

    def find(self, session: Session, question: Any, wanted: Mapping[int, Mark]) -> dict[int, list[T]]:
        """The points of the wanted spans that are known with the wanted mark."""
        with self._lock:
            questions = self._questions(session)
            known = questions.get(question, {})
            if known:
                questions.move_to_end(question)
            held = ((at, known.get(at)) for at in wanted)
            return {at: one[1] for at, one in held if one is not None and one[0] == wanted[at]}

    def keep(self, session: Session, question: Any, wanted: Mapping[int, Mark], points: Mapping[int, list[T]]) -> None:
        """Keeps points of spans that are wanted; lets go of what was asked longest ago."""
        with self._lock:
            questions = self._questions(session)
            known = questions.setdefault(question, {})
            questions.move_to_end(question)
            known |= {at: (wanted[at], several) for at, several in points.items() if at in wanted}
            if _size(known) > self._most:  # of a question that is asked of ever later times
                for at in [at for at in known if at not in wanted]:
                    del known[at]
            while sum(map(_size, questions.values())) > self._most:
                questions.popitem(last=False)

    def _questions(self, session: Session) -> OrderedDict[Any, dict[int, tuple[Mark, list[T]]]]:
        return self._of_store.setdefault(session.connection().engine.pool, OrderedDict())


def _size(spans: Mapping[int, tuple[Mark, list[T]]]) -> int:
    return sum([len(points) or 1 for _, points in spans.values()])
