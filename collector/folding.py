"""What the collector was told and did not store, folded once it is past: sums stay, rows do not grow for ever."""

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, Table, delete, func, insert, select

from collector.insert import raise_client_counts
from driftline.store.engine import reading, writing
from driftline.store.tables import ClientCount, Intake

PAST = "(past)"  # the client that stands for all that have not been heard of for long

_INTAKE = Intake.__table__  # type: ignore[attr-defined]
_CLIENT = ClientCount.__table__  # type: ignore[attr-defined]


def fold_intake(project_id: int, before: int, span: int, groups: int = 50) -> int:
    """Folds the counts before a moment into one row a reason and span (both microseconds); how many rows less.

    Commits append rows, readers add them up. `groups` are folded in one transaction.
    """
    return fold(_INTAKE, ("project_id", "reason"), _summed, project_id, before, span, groups)


def _summed(rows: Sequence[Any]) -> dict[str, Any]:
    return {name: rows[0][name] for name in ("project_id", "reason")} | {"n": sum(row["n"] for row in rows)}


def fold(
    table: Table, group: Sequence[str], add: Callable[[Sequence[Any]], dict[str, Any]],
    project_id: int, before: int, span: int, groups: int,
) -> int:  # fmt: skip
    """Folds the rows of a project before a moment into one per group and span (both microseconds); how many rows less.

    Args:
        table: Has the columns `project_id` and `minute`, and those of the group.
        group: Names of columns whose values the folded rows share.
        add: One row, without its minute, of the rows of a group.
        project_id: Whose rows.
        before: The moment.
        span: What one folded row stands for.
        groups: So many are folded in one transaction.
    """
    minute = table.c.minute
    first = (minute - minute % span).label("minute")
    same_group = [table.c[name] for name in group]
    crowded = (
        select(*same_group, first)
        .where(table.c.project_id == project_id, minute < before - before % span)
        .group_by(*same_group, first)
        .having(func.count() > 1)
    )
    with reading() as session:
        found = session.connection().execute(crowded).all()
    fewer = 0
    for start in range(0, len(found), groups):
        with writing() as session:
            connection = session.connection()
            number = _next_number(connection, table)
            for *values, begin in found[start : start + groups]:
                same = [column == value for column, value in zip(same_group, values, strict=True)]
                same += [minute >= begin, minute < begin + span]
                # what this very statement takes away is added up, so two that fold at once count nothing twice
                rows = connection.execute(delete(table).where(*same).returning(table)).mappings().all()
                if rows:
                    numbered = {} if number is None else {"id": number}
                    number = None if number is None else number + 1
                    connection.execute(insert(table), [add(rows) | {"minute": begin} | numbered])
                    fewer += len(rows) - 1
    return fewer


def _next_number(connection: Connection, table: Table) -> int | None:
    """What SQLite is to number the next row, None where the database never gives a number twice.

    SQLite counts from the largest number there is: where the newest row was just taken away, its number would come
    again, and whoever keeps what he read of rows with these numbers would not see that they are others.
    """
    if connection.dialect.name != "sqlite":
        return None
    return int(connection.execute(select(func.max(table.c.id))).scalar_one() or 0) + 1


def fold_clients(project_id: int, before: int, step: int = 1_000) -> int:
    """Folds counts of clients last heard before a moment into one row a variant and reason; how many rows they were.

    A client's counts only grow while it runs, so one that came back after that would be counted again: leave it time.
    """
    old = (
        select(_CLIENT.c.id)
        .where(_CLIENT.c.project_id == project_id, _CLIENT.c.updated_at < before, _CLIENT.c.client != PAST)
        .limit(step)
    )
    folded = 0
    while True:
        with writing() as session:
            connection = session.connection()
            ids = connection.execute(old).scalars().all()
            gone = delete(_CLIENT).where(_CLIENT.c.id.in_(ids), _CLIENT.c.updated_at < before)
            taken = connection.execute(gone.returning(_CLIENT.c.variant, _CLIENT.c.reason, _CLIENT.c.n)).all()
            sums: dict[tuple[str, str], int] = {}
            for variant, reason, n in taken:
                sums[variant, reason] = sums.get((variant, reason), 0) + n
            told = [
                {"project_id": project_id, "client": PAST, "variant": v, "reason": r, "n": n, "updated_at": before}
                for (v, r), n in sorted(sums.items())
            ]
            if told:
                raise_client_counts(connection, told, add=True)
        folded += len(taken)
        if len(ids) < step:
            return folded
