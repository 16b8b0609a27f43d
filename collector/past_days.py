"""Dropping days on PostgreSQL whose calls no project keeps any more.

What hangs on the calls goes first, in small steps; then the partition is taken out of the table without keeping
anybody out, and dropped. Where somebody still reads it, the next turn goes on.
"""

import logging

from sqlalchemy import Connection, String, any_, delete, literal, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.exc import DBAPIError

from collector.insert import take_turn
from driftline.errors import DriftlineError
from driftline.moment import DAY
from driftline.store.days import BEFORE, PAST, Part, is_part, last_key, parts
from driftline.store.engine import engine, reading, writing
from driftline.store.generations import forget_ids
from driftline.store.tables import Bookmark, Feedback, Score, SpanMessage

log = logging.getLogger("collector.past_days")

STEP = 2_000  # calls whose feedback, scores and keys go in one transaction
_DROPPING = 0x44524658  # one process at a time
_WAIT = "200ms"  # so long at most do others wait behind us
_DETACH_WAIT = "5s"  # nobody waits behind this

_SCORE = Score.__table__  # type: ignore[attr-defined]
_HANGING_ON_IT = (Feedback.__table__, SpanMessage.__table__)  # type: ignore[attr-defined]


def past_parts(connection: Connection, now: int) -> list[Part]:
    """Partitions that get no more calls and hold none that its project keeps, oldest first; empty ones among them."""
    if connection.dialect.name != "postgresql":
        return []
    last = last_key(connection)
    return [part for part in parts(connection) if part.end <= last and _is_past(connection, part, now)]


def _is_past(connection: Connection, part: Part, now: int) -> bool:
    # one look at an index a project, and none after the first that keeps a call
    of_project = f"SELECT started_at FROM {part.name} WHERE project_id = project.id ORDER BY started_at DESC LIMIT 1"  # noqa: S608 - our own name
    kept = (
        f"SELECT 1 FROM project CROSS JOIN LATERAL ({of_project}) AS newest "  # noqa: S608
        "WHERE keep_days IS NULL OR started_at >= :now - keep_days * CAST(:day AS bigint) LIMIT 1"
    )
    if connection.execute(text(kept), {"now": now, "day": DAY}).first() is not None:
        return False
    if part.name == BEFORE:  # it stays for ever, empty
        return bool(connection.execute(text(f"SELECT pg_relation_size('{BEFORE}') > 0")).scalar_one())
    return True


def drop_past_days(now: int, most: int | None = None) -> int:
    """Drops the days whose calls are all older than their projects keep; how many calls were let go.

    With `most` it stops after about so many, so that the caller can go on later. A day that somebody reads is left to
    the next call.
    """
    if engine().dialect.name != "postgresql":
        return 0
    with engine().connect().execution_options(isolation_level="AUTOCOMMIT") as alone:
        alone.detach()  # from the pool: what is set on it ends with it
        if not alone.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": _DROPPING}).scalar_one():
            return 0
        try:
            alone.execute(text(f"SET lock_timeout = '{_DETACH_WAIT}'"))
            return _drop_past(alone, now, most)
        finally:
            alone.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _DROPPING})


def _drop_past(alone: Connection, now: int, most: int | None) -> int:
    try:
        _finish(alone)
    except (DBAPIError, DriftlineError) as error:
        log.info("A day that is past is still in use: %s", error)
        return 0
    gone = 0
    with reading() as session:
        found = past_parts(session.connection(), now)
    for part in found:
        left = None if most is None else most - gone
        n, is_whole = _let_go(part, left)
        gone += n
        if not is_whole:
            break
        try:
            alone.execute(text(f"ALTER TABLE generation DETACH PARTITION {part.name} CONCURRENTLY"))
            _finish(alone)
        except (DBAPIError, DriftlineError) as error:
            log.info("The day %s is past, but still in use: %s", part.name, error)
            break
        with writing() as session:
            session.connection().execute(delete(Bookmark).where(Bookmark.name == _bookmark(part)))  # type: ignore[arg-type]
    return gone


def _bookmark(part: Part) -> str:
    return f"forget:{part.name}"


def _let_go(part: Part, most: int | None) -> tuple[int, bool]:
    """Takes away what hangs on a day's calls; of how many, and whether these were the last."""
    gone = 0
    while True:
        with writing() as session:
            known = session.get(Bookmark, _bookmark(part)) or Bookmark(name=_bookmark(part), position=part.first - 1)
            following = text(f"SELECT seq, project_id, id FROM {part.name} WHERE seq > :seq ORDER BY seq LIMIT :step")  # noqa: S608
            calls = session.connection().execute(following, {"seq": known.position, "step": STEP}).all()
            if not calls:
                # scores of calls that were given meanwhile
                _delete_scores(session.connection(), part.first - 1, part.end - 1)
                return gone, True
            last = calls[-1].seq
            _delete_scores(session.connection(), known.position, last)
            of_projects: dict[int, dict[int, str]] = {}
            for call in calls:
                of_projects.setdefault(call.project_id, {})[call.seq] = call.id
            for project_id, ids in of_projects.items():
                _delete_ids(session.connection(), project_id, ids)
            known.position = last
            session.add(known)
        gone += len(calls)
        if most is not None and gone >= most:
            return gone, False


def _delete_scores(connection: Connection, after: int, last: int) -> None:
    place = _SCORE.c.generation_seq
    connection.execute(delete(_SCORE).where(place > after, place <= last))


def _delete_ids(connection: Connection, project_id: int, ids: dict[int, str]) -> None:
    ours = [ids[key] for key in forget_ids(connection, project_id, ids.items())]
    for table in _HANGING_ON_IT:
        of_ours = table.c.generation_id == any_(literal(ours, ARRAY(String)))  # one value, where IN has thousands
        connection.execute(delete(table).where(table.c.project_id == project_id, of_ours))


def _finish(alone: Connection) -> None:
    """Takes out what an earlier turn could not, and drops what is out."""
    pending = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'generation'::regclass "
    for (name,) in alone.execute(text(pending + "AND inhdetachpending")).all():
        alone.execute(text(f"ALTER TABLE generation DETACH PARTITION {name} FINALIZE"))
    known = parts(alone)
    if known[0].name != BEFORE:
        _renew_before(BEFORE in _loose(alone), known[0].first)
    for name in _loose(alone):
        with writing() as session:
            # In our turn no collector writes. Dropping keeps others away from what calls refer to, for a moment.
            session.connection().execute(text(f"SET LOCAL lock_timeout = '{_WAIT}'"))
            take_turn(session.connection())
            session.connection().execute(text(f"DROP TABLE {name}"))


def _loose(alone: Connection) -> list[str]:
    tables = "SELECT relname FROM pg_class WHERE relkind = 'r' AND NOT relispartition AND pg_table_is_visible(oid)"
    return [name for name in alone.execute(text(tables)).scalars() if is_part(name)]


def _renew_before(is_there: bool, end: int) -> None:
    with writing() as session:
        connection = session.connection()
        connection.execute(text(f"SET LOCAL lock_timeout = '{_WAIT}'"))
        if is_there:
            connection.execute(text(f"ALTER TABLE {BEFORE} RENAME TO {PAST}"))
        connection.execute(text(f"CREATE TABLE {BEFORE} (LIKE generation)"))
        bounds = f"FROM (MINVALUE) TO ({end})"
        connection.execute(text(f"ALTER TABLE generation ATTACH PARTITION {BEFORE} FOR VALUES {bounds}"))
