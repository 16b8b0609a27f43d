"""Routes that used to send and send nothing any more: their last record came longer ago than the window."""

from typing import Any

from sqlmodel import Session, col, func, select

from driftline.acts.matching import matches
from driftline.moment import DAY, HOUR, MINUTE, SECOND, iso
from driftline.store.days import first_key_since
from driftline.store.tables import Generation, Rollup, Route
from scheduler.measures import Asked
from scheduler.measures.seen import Fact, Seen
from scheduler.tidying import HOURS_AFTER, QUARTER, QUARTERS_AFTER


def look(session: Session, project_id: int, rule: Asked, cursor: dict[str, Any], now: int) -> Seen:
    """Per route, whether it is silent now."""
    facts = []
    for route in session.exec(select(Route.name).where(Route.project_id == project_id)).all():
        if not matches({"route": route}, rule.matchers):
            continue
        of_route = select(func.max(Generation.seq)).where(
            Generation.project_id == project_id, Generation.route == route
        )
        recent = of_route.where(col(Generation.seq) >= first_key_since(session.connection(), now - DAY))
        newest = session.get(Generation, session.exec(recent).one() or session.exec(of_route).one() or 0)
        if newest is not None:
            facts.append(_fact(route, newest.received_at, now, float(rule.condition["window_s"])))
    return Seen(facts=facts)


def _fact(route: str, last: int, now: int, window_s: float) -> Fact:
    silent_s = (now - last) / SECOND
    return Fact(
        f"route={route}", {"route": route}, now, silent_s >= window_s, silent_s,
        f"Route {route} has sent nothing for {silent_s:.0f} s; its last record came at {iso(last)}.",
        {"Last record": iso(last)},
    )  # fmt: skip


def past(session: Session, project_id: int, rule: Asked, since: int, until: int) -> Seen:
    """Per route, the silences of stored history that were long enough, as finely as its counts are kept."""
    query = select(Rollup.route, Rollup.minute).where(
        Rollup.project_id == project_id, col(Rollup.minute) >= since, col(Rollup.minute) < until
    )
    minutes: dict[str, list[int]] = {}
    for route, minute in session.exec(query.distinct().order_by(col(Rollup.minute))):
        minutes.setdefault(route, []).append(minute)
    facts, window = [], float(rule.condition["window_s"])
    for route, seen in minutes.items():
        if not matches({"route": route}, rule.matchers):
            continue
        for minute, following in zip(seen, [*seen[1:], until], strict=True):
            ends = minute + _span(until - minute)
            if following - ends >= window * SECOND:
                alarm = ends - MINUTE + int(window * SECOND)
                facts += [_fact(route, minute, alarm, window), _fact(route, following, following, window)]
    return Seen(facts=sorted(facts, key=lambda fact: fact.at))


def _span(age: int) -> int:
    """What a row of counts so old stands for at most: somewhere in it there were calls."""
    return HOUR if age > HOURS_AFTER else QUARTER if age > QUARTERS_AFTER else MINUTE
