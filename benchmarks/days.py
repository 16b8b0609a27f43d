"""What many days cost on PostgreSQL: lists, look-ups, batches and the scheduler's reads over so many partitions.

    python -m benchmarks.days --postgres URL [--rows N] [--days D ...]

Fills databases of their own with N short calls of three variants on two routes, spread evenly over D days of arrival,
one partition each, and asks each question through the code that the processes use. The reference is the same calls in
one partition, asked in turns with the other. Times are medians of 15, milliseconds; `locks` is how many locks the
question holds.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, text
from sqlmodel import Session, col, func, select

from benchmarks.ingest import fresh_store, prepare
from collector.insert import insert_generations, take_turn
from collector.record import Record
from collector.rows import Privacy, Row, row_of
from dashboard.api.lists import LISTS, keyset_page, stretches_of
from driftline.moment import DAY, now_us
from driftline.store.days import SEQUENCE, key_of, name_of
from driftline.store.engine import open_engine
from driftline.store.generations import with_ids
from driftline.store.ids import id_hash
from driftline.store.tables import Generation, Monitor, Route, Score
from scheduler.measures import Asked, no_data
from scheduler.recent import recent
from scheduler.signals import last_place, read_rows

REPEATS = 15
BATCH = 512
_FILL = (
    "INSERT INTO generation (seq, project_id, id, started_at, received_at, variant_id, route, input, output, "
    "input_chars, output_chars, latency_ms, status, session_id, user_id, tags, sample_rate, sample_key) "
    "SELECT :first + k, 1, md5((:first + k)::text), :at + k * :gap, :at + k * :gap, 1 + k % 3, "
    "(ARRAY['chat', 'search'])[1 + k % 2], 'short', 'short', 5, 5, 100 + k % 900, 'ok', "
    "'session-' || (:number + k) / 8, 'user-' || (:number + k) % 1000, '{}', 1, hashint8(:first + k) "
    "FROM generate_series(CAST(0 AS bigint), CAST(:n AS bigint) - 1) AS k"
)


def fill(engine: Engine, rows: int, days: int, *, whole: bool) -> None:
    """Stores the calls, each day's in its partition, or all of them in the oldest."""
    today = now_us() // DAY
    with Session(engine) as session, session.begin():
        connection = session.connection()
        names = "project_id, name, content_hash, spec, state, build_state, measured, created_at"
        for number in range(3):
            values = f"1, 'v{number}', '{number}', '{{}}', 'production', 'built', '{{}}', 0"
            connection.execute(text(f"INSERT INTO variant ({names}) VALUES ({values})"))
        session.add(Route(project_id=1, name="chat", updated_at=0))
    each = rows // days
    for number, day in enumerate(range(today - days + 1, today + 1)):
        with engine.begin() as connection:
            first = 1 + number * each if whole else key_of(day)
            if not whole:
                connection.execute(text(f"CREATE TABLE {name_of(day)} (LIKE generation)"))
                bounds = f"FROM ({first}) TO ({key_of(day + 1)})"
                connection.execute(text(f"ALTER TABLE generation ATTACH PARTITION {name_of(day)} FOR VALUES {bounds}"))
            length = DAY if day < today else now_us() % DAY
            told = {"first": first, "at": day * DAY, "gap": length // each, "number": number * each, "n": each}
            connection.execute(text(_FILL), told)
            connection.execute(text(f"SELECT setval('{SEQUENCE}', :last)"), {"last": first + each - 1})
    with engine.begin() as connection:
        driver: Any = connection.connection.driver_connection
        with driver.cursor() as asked, driver.cursor() as cursor:
            asked.execute("SELECT id, seq FROM generation")
            with cursor.copy("COPY generation_key (hash, seq) FROM STDIN") as copy:
                for identity, seq in asked:
                    copy.write_row((id_hash(1, identity), seq))
        connection.execute(text(
            "INSERT INTO score (project_id, generation_seq, evaluator, version, value, created_at, arrived_at) "
            "SELECT 1, seq, 'e', '1', 0.5, received_at, received_at FROM generation "
            "WHERE sample_key % 50 = 0 ORDER BY seq"
        ))  # fmt: skip
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as alone:
        alone.execute(text("VACUUM ANALYZE"))


def monitor(signal: str) -> Monitor:
    """A monitor of the route `chat`, not stored."""
    return Monitor(
        project_id=1, route="chat", signal=signal, source="e", params={}, name="m", detector="mean", created_at=0
    )  # fmt: skip


def new_rows() -> list[Row]:
    """A batch of calls with fresh ids."""
    now = now_us()
    made = [
        row_of(Record(id=os.urandom(16).hex(), started_at=0, output="short"), now, 1, Privacy("full"), now)
        for _ in range(BATCH)
    ]
    for row in made:
        row.variant_id = 1
    return made


def store_batch(engine: Engine) -> None:
    """Stores a batch as the collector does."""
    rows = new_rows()
    with engine.begin() as connection:
        take_turn(connection)
        insert_generations(connection, rows)


def questions(engine: Engine, rows: int) -> dict[str, Callable[[Session], object]]:
    """What is asked, by what it is called."""
    calls, row = LISTS["generations"], Generation
    with Session(engine) as session:
        newest = session.exec(select(func.max(row.seq))).one()
        behind = session.exec(select(row.seq).order_by(col(row.seq).desc()).offset(2_000).limit(1)).one()
        ids = list(session.exec(select(row.id).order_by(col(row.sample_key)).limit(500)))
        score = session.exec(select(func.max(Score.id))).one() or 0
    now = now_us()

    def page(*conditions: Any, until: int | None = None) -> Callable[[Session], object]:
        def look(session: Session) -> object:
            return keyset_page(session, calls, 1, 100, None, conditions, stretches_of(session, 1, 100, until=until))

        return look

    silence = Asked("no_data", {}, {"window_s": 60})
    return {
        "list, newest 100": page(),
        "list, one variant": page(col(row.variant_id) == 1),
        "list, middle": page(col(row.started_at) < now - 40 * DAY, until=now - 40 * DAY),
        "list, one session": page(col(row.session_id) == f"session-{rows // 16}"),
        "list, one user": page(col(row.user_id) == "user-77"),
        "one call": lambda session: session.get(row, newest),
        "500 ids": lambda session: session.exec(select(row.seq).where(with_ids(session.connection(), 1, ids))).all(),
        "next 2,000 of traffic": lambda session: read_rows(session, monitor("latency"), after=behind, up_to=newest),
        "last place": lambda session: last_place(session, monitor("latency"), after=behind, before_us=now),
        "next 200 scores": lambda session: read_rows(session, monitor("quality"), after=score - 400, up_to=score),
        "silent route": lambda session: no_data.look(session, 1, silence, {}, now),
        "newest 5,000": lambda session: recent(session, 1, "chat", None, 0),
    }


@contextmanager
def filled(server_url: str, rows: int, days: int, *, whole: bool) -> Iterator[Engine]:
    """A store with these calls."""
    with fresh_store(server_url) as environment:
        prepare(environment, "full")
        engine = open_engine(environment["DRIFTLINE_DATABASE_URL"])
        fill(engine, rows, days, whole=whole)
        try:
            yield engine
        finally:
            engine.dispose()


def ask(engine: Engine, question: Callable[[Session], object]) -> tuple[float, int]:
    """Milliseconds of one answer, and the locks that are held then."""
    reads: dict[str, Any] = {"isolation_level": "REPEATABLE READ"}
    with Session(engine.execution_options(**reads)) as session:
        start = time.perf_counter()
        question(session)
        took = (time.perf_counter() - start) * 1000
        held = text("SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid()")
        return took, int(session.connection().execute(held).scalar_one())


def measure(server_url: str, rows: int, days: int) -> None:
    """Prints what each question takes."""
    one, many = (filled(server_url, rows, days, whole=whole) for whole in (True, False))
    with one as reference, many as parted:
        stores = {engine: questions(engine, rows) for engine in (reference, parted)}
        for name in stores[reference]:
            told = [[ask(engine, stores[engine][name]) for engine in stores] for _ in range(REPEATS + 2)][2:]
            whole_ms, ms = (statistics.median(pair[k][0] for pair in told) for k in (0, 1))
            report(rows, days, name, ms, whole_ms, told[-1][1][1])
        took = [[timed(store_batch, engine) for engine in stores] for _ in range(REPEATS + 2)][2:]
        whole_ms, ms = (statistics.median(pair[k] for pair in took) for k in (0, 1))
        report(rows, days, f"{BATCH} calls stored", ms, whole_ms)


def timed(act: Callable[[Engine], None], engine: Engine) -> float:
    """Milliseconds."""
    start = time.perf_counter()
    act(engine)
    return (time.perf_counter() - start) * 1000


def report(rows: int, days: int, name: str, ms: float, whole_ms: float, locks: int | None = None) -> None:
    """Prints one line."""
    print(
        f"{rows:9,} calls of {days:3} days  {name:22} {ms:7.1f} ms  {ms / whole_ms:5.1f} of one partition "
        f"({whole_ms:6.1f} ms){'' if locks is None else f'  {locks:5} locks'}",
        flush=True,
    )


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--postgres", required=True, help="SQLAlchemy URL of a server on which databases may be made")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--days", type=int, nargs="*", default=[90, 400])
    told = parser.parse_args()
    for days in told.days:
        measure(told.postgres, told.rows, days)


if __name__ == "__main__":
    main()
