"""Lists, newest first, page by page with a cursor. Adding a list is one row in `LISTS`."""

import base64
import binascii
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field, create_model
from sqlalchemy import ColumnElement, true, tuple_
from sqlmodel import Session, SQLModel, col, or_, select

from dashboard.api.caller import ProjectName, Reader, Since, Until, VariantName, moment_of, variant_id_of
from dashboard.api.failing import ApiRoute
from dashboard.api.shapes import shape, shaped
from dashboard.newest import Named, is_in_parts, newest_named
from dashboard.stretches import last_days, stretches
from driftline.errors import BadInput, NotFound
from driftline.store.engine import reading
from driftline.store.generations import began_since, of_trace
from driftline.store.projects import Caller
from driftline.store.tables import (
    Alert,
    AlertRule,
    Channel,
    Comparison,
    DriftEvent,
    Generation,
    GoldenSet,
    Job,
    Monitor,
    Reading,
    Reoptimization,
    Replay,
    Schedule,
    Silence,
    Variant,
)

MOST = 1000
VariantRule = Callable[[int], ColumnElement[bool]]
Conditions = tuple[ColumnElement[bool], ...]
Look = Callable[[int | None], Iterable[ColumnElement[bool]]]


@dataclass(frozen=True, slots=True)
class Narrowed:
    """What the filters of one list alone ask for; `is_found` where an index finds it, `named` where names do."""

    conditions: Conditions = ()
    status: str | None = None
    is_found: bool = False
    named: Named | None = None


Narrowing = Callable[[Session, int], Narrowed]  # by project


def _of_calls(
    session: Annotated[str | None, Query(max_length=256, description="A conversation's calls.")] = None,
    trace: Annotated[str | None, Query(pattern="^[0-9a-f]{32}$", description="An OpenTelemetry trace's calls.")] = None,
    user: Annotated[str | None, Query(max_length=256, description="What one user asked.")] = None,
    status: Literal["ok", "error", "aborted"] | None = None,
) -> Narrowing:
    asked = ((Generation.session_id, session), (Generation.user_id, user), (Generation.status, status))
    given = tuple(col(column) == value for column, value in asked if value is not None)
    named: Named | None = None
    if session is not None or user is not None:
        named = ("session_id", session) if session is not None else ("user_id", str(user))

    def narrowed(reader: Session, project_id: int) -> Narrowed:
        traced = () if trace is None else (of_trace(reader.connection(), project_id, trace),)
        return Narrowed((*given, *traced), status, bool(named or traced), named if trace is None else None)

    return narrowed


@dataclass(frozen=True, slots=True)
class Listing:
    """A list of rows of one table.

    `order` are the columns that order it, together unique; `time` is what `since` and `until` look at. `of_project`
    is the condition that keeps it to one project, `of_variant` the one behind the filter `variant`; `narrowed` takes
    the filters of this list alone as its parameters and says what they ask for.
    """

    table: type[SQLModel]
    time: Any
    order: tuple[Any, ...]
    of_project: Callable[[int], ColumnElement[bool]]
    of_variant: VariantRule | None = None
    narrowed: Callable[..., Narrowing] = lambda: lambda session, project_id: Narrowed()


def _own(table: Any) -> Callable[[int], ColumnElement[bool]]:
    return lambda project_id: table.project_id == project_id


def _replays_of(variant_id: int) -> Any:
    return select(Replay.id).where(Replay.variant_id == variant_id)


def _plain(table: Any, of_variant: VariantRule | None = None) -> Listing:
    return Listing(table, table.created_at, (table.id,), _own(table), of_variant)


LISTS: dict[str, Listing] = {
    "generations": Listing(
        Generation, Generation.started_at, (Generation.started_at, Generation.seq), _own(Generation),
        lambda variant_id: col(Generation.variant_id) == variant_id,
        _of_calls,
    ),
    "variants": _plain(Variant, lambda variant_id: col(Variant.id) == variant_id),
    "golden-sets": _plain(GoldenSet),
    "replays": _plain(Replay, lambda variant_id: col(Replay.variant_id) == variant_id),
    "comparisons": _plain(
        Comparison,
        lambda variant_id: or_(
            col(Comparison.candidate_replay_id).in_(_replays_of(variant_id)),
            col(Comparison.baseline_replay_id).in_(_replays_of(variant_id)),
        ),
    ),
    "monitors": _plain(Monitor, lambda variant_id: col(Monitor.variant_id) == variant_id),
    "readings": Listing(
        Reading, Reading.block_start, (Reading.id,),
        lambda project_id: col(Reading.monitor_id).in_(select(Monitor.id).where(Monitor.project_id == project_id)),
        lambda variant_id: col(Reading.monitor_id).in_(select(Monitor.id).where(Monitor.variant_id == variant_id)),
    ),
    "drift-events": Listing(
        DriftEvent, DriftEvent.detected_at, (DriftEvent.id,), _own(DriftEvent),
        lambda variant_id: col(DriftEvent.variant_id) == variant_id,
    ),
    "alerts": Listing(
        Alert, Alert.fired_at, (Alert.id,), _own(Alert),
        lambda variant_id: col(Alert.drift_event_id).in_(
            select(DriftEvent.id).where(DriftEvent.variant_id == variant_id)
        ),
    ),
    "reoptimizations": _plain(
        Reoptimization,
        lambda variant_id: or_(
            col(Reoptimization.subject_variant_id) == variant_id, col(Reoptimization.candidate_variant_id) == variant_id
        ),
    ),
    "rules": _plain(AlertRule),
    "channels": _plain(Channel),
    "silences": _plain(Silence),
    "schedules": _plain(Schedule),
    "jobs": _plain(Job),
}  # fmt: skip


def keyset_page(
    session: Session, listing: Listing, project_id: int, limit: int, cursor: str | None = None,
    conditions: tuple[ColumnElement[bool], ...] = (), look: Look | None = None,
) -> tuple[list[Any], str | None]:  # fmt: skip
    """At most `limit` rows after the cursor, newest first, and the cursor that goes on, None at the end.

    Rows that arrive meanwhile neither shift a page nor appear twice.

    Args:
        look: Where else to look than everywhere: conditions, newest rows first, from the first column's value in the
            cursor.

    Raises:
        BadInput: The cursor is none that this list gave.
    """
    query = select(listing.table).where(listing.of_project(project_id), *conditions)
    places = None if cursor is None else _places(cursor, len(listing.order))
    if places is not None:
        query = query.where(tuple_(*listing.order) < tuple_(*places))
    query = query.order_by(*(column.desc() for column in listing.order))
    rows: list[Any] = []
    for where in (true(),) if look is None else look(None if places is None else places[0]):
        rows += session.exec(query.where(where).limit(limit + 1 - len(rows))).all()
        if len(rows) > limit:
            break
    else:
        return rows, None
    last = [getattr(rows[limit - 1], column.key) for column in listing.order]
    return rows[:limit], base64.urlsafe_b64encode(json.dumps(last).encode()).decode()


def stretches_of(
    session: Session, project_id: int, limit: int, variant_id: int | None = None, status: str | None = None,
    until: int | None = None, named: Named | None = None,
) -> Look:  # fmt: skip
    """Where to look for calls: those of a name, a variant or a status where they lie, others in the last days first."""

    def look(before: int | None) -> Iterable[ColumnElement[bool]]:
        latest = min((moment for moment in (before, until) if moment is not None), default=None)
        if named is not None and is_in_parts(session):
            return newest_named(session, project_id, named, limit + 1, latest)
        if variant_id is None and status is None:
            return last_days(session, latest)
        return stretches(session, project_id, limit + 1, variant_id=variant_id, status=status, before=latest)

    return look


def _places(cursor: str, count: int) -> list[int]:
    try:
        places = json.loads(base64.urlsafe_b64decode(cursor.encode()))
    except (ValueError, binascii.Error, RecursionError):
        places = None
    if not (isinstance(places, list) and len(places) == count and all(type(place) is int for place in places)):
        raise BadInput("The cursor is none that this list gave. Leave it out to start from the newest row.")
    if not all(-(2**63) <= place < 2**63 for place in places):
        raise BadInput("The cursor points outside of every list. Leave it out to start from the newest row.")
    return places


def routes() -> APIRouter:
    """GET /{list} and GET /{list}/{id} for every row of `LISTS`."""
    router = APIRouter(tags=["lists"], route_class=ApiRoute)
    for name, listing in LISTS.items():
        _add(router, name, listing)
    return router


def _add(router: APIRouter, name: str, listing: Listing) -> None:
    row: type[BaseModel] = shape(listing.table)
    page: Any = create_model(
        f"{listing.table.__name__}Page",
        items=(list[row], ...),  # type: ignore[valid-type]
        next_cursor=(str | None, Field(None, description="Give it as `cursor` for the next page; null at the end.")),
    )
    narrowing = Annotated[Narrowing, Depends(listing.narrowed)]
    if listing.of_variant is not None:

        def read(
            caller: Reader, narrowed: narrowing, cursor: str | None = None,
            limit: Annotated[int, Query(ge=1, le=MOST)] = 100,
            project: ProjectName = None, variant: VariantName = None, since: Since = None, until: Until = None,
        ) -> Any:  # fmt: skip
            return _read(listing, caller, cursor, limit, variant, since, until, narrowed)
    else:

        def read(  # type: ignore[misc]
            caller: Reader, narrowed: narrowing, cursor: str | None = None,
            limit: Annotated[int, Query(ge=1, le=MOST)] = 100,
            project: ProjectName = None, since: Since = None, until: Until = None,
        ) -> Any:  # fmt: skip
            return _read(listing, caller, cursor, limit, None, since, until, narrowed)

    def read_one(row_id: int, caller: Reader, project: ProjectName = None) -> Any:
        key = listing.order[-1]
        with reading() as session:
            found = session.exec(select(listing.table).where(listing.of_project(caller.project_id), key == row_id))
            one = found.first()
            if one is None:
                raise NotFound(name, row_id)
            return shaped(session, listing.table, [one])[0]

    about = (listing.table.__doc__ or "").splitlines()[0]
    router.get(f"/{name}", response_model=page, summary=f"List {name}", description=about)(read)
    router.get(f"/{name}/{{row_id}}", response_model=row, summary=f"One of {name}", description=about)(read_one)


def _read(
    listing: Listing, caller: Caller, cursor: str | None, limit: int,
    variant: str | None, since: str | None, until: str | None, narrowing: Narrowing,
) -> dict[str, Any]:  # fmt: skip
    conditions: list[ColumnElement[bool]] = []
    first, last = moment_of(since, "since"), moment_of(until, "until")
    if last is not None:
        conditions.append(listing.time < last)
    with reading() as session:
        narrowed = narrowing(session, caller.project_id)
        conditions.extend(narrowed.conditions)
        variant_id = variant_id_of(session, caller, variant)
        if variant_id is not None and listing.of_variant is not None:
            conditions.append(listing.of_variant(variant_id))
        look = None
        if listing.table is Generation:
            lying = (None, None) if narrowed.is_found else (variant_id, narrowed.status)
            look = stretches_of(session, caller.project_id, limit, *lying, last, narrowed.named)
        if first is not None:
            of_calls = listing.table is Generation
            conditions.append(began_since(session.connection(), first) if of_calls else listing.time >= first)
        rows, following = keyset_page(session, listing, caller.project_id, limit, cursor, tuple(conditions), look)
        return {"items": shaped(session, listing.table, rows), "next_cursor": following}
