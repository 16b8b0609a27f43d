"""The share of calls that end in an error, per route (and variant, where the rule groups by it)."""

from typing import Any

from sqlmodel import Session, col, func, select

from driftline.acts.matching import matches
from driftline.store.tables import Rollup, Variant
from scheduler.measures import Asked
from scheduler.measures.seen import Evidence, Seen
from scheduler.tidying import FOLD_AFTER

UNIT = "of the calls end in an error"


def line(condition: dict[str, Any]) -> float:
    """The share of errors from which on it alarms."""
    return float(condition["threshold"])


def look(session: Session, project_id: int, rule: Asked, cursor: dict[str, Any], now: int) -> Seen:
    """One block per route: what was stored since the last look."""
    newest = session.exec(select(func.max(Rollup.id)).where(Rollup.project_id == project_id)).one() or 0
    # One look behind where several collectors commit at once: a row of a lower number may still be on its way.
    until = newest if session.get_bind().dialect.name == "sqlite" else int(cursor.get("seen", newest))
    after = int(cursor.get("rollup", until))
    fresh = col(Rollup.minute) >= now - FOLD_AFTER  # older ones are folded into rows with new numbers: known already
    new = (col(Rollup.id) > after, col(Rollup.id) <= until, fresh)
    rows = _sums(session, rule, *new, project_id=project_id, at=now)
    return Seen(rows, cursor={"rollup": max(after, until), "seen": newest})


def past(session: Session, project_id: int, rule: Asked, since: int, until: int) -> Seen:
    """One block per route and minute of stored history."""
    where = (col(Rollup.minute) >= since, col(Rollup.minute) < until)
    return Seen(_sums(session, rule, *where, project_id=project_id, at=None))


def _sums(session: Session, rule: Asked, *where: Any, project_id: int, at: int | None) -> list[Evidence]:
    moment: Any = Rollup.minute if at is None else func.max(Rollup.minute)
    query: Any = select(Rollup.route, Rollup.variant_id, moment, func.sum(Rollup.errors), func.sum(Rollup.n))  # type: ignore[call-overload]
    query = query.where(Rollup.project_id == project_id, *where).group_by(Rollup.route, Rollup.variant_id)
    query = query.group_by(Rollup.minute).order_by(Rollup.minute) if at is None else query
    names = dict(session.exec(select(Variant.id, Variant.name).where(Variant.project_id == project_id)).all())
    found: dict[tuple[str, int], Evidence] = {}
    for route, variant_id, minute, errors, n in session.exec(query):
        labels = {"route": str(route), "variant": names.get(variant_id, "")}
        if not matches(labels, rule.matchers):
            continue
        if "variant" not in rule.group_by and "variant" not in rule.matchers:
            del labels["variant"]
        key = ",".join(f"{name}={value}" for name, value in labels.items())
        place = (key, at if at is not None else int(minute))
        known = found.get(place)
        found[place] = Evidence(
            key, labels, place[1], float(errors) + (known.bad if known else 0.0), int(n) + (known.n if known else 0)
        )
    return list(found.values())
