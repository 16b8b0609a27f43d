"""How much of the traffic the golden sets do not cover: prompts farther from every golden item than those are apart.

A bounded sample of each route's new prompts is looked at once a minute, as hashed words and 3-grams; no model needed.
"""

import json
from typing import Any

from sqlmodel import Session, col, func, select

from driftline.acts.matching import matches
from driftline.moment import MINUTE
from driftline.store.tables import Generation, GoldenItem, GoldenSet, GoldenVersion, Route
from scheduler.measures import Asked
from scheduler.measures.seen import Evidence, Seen

UNIT = "of the prompts lie outside what the golden sets cover"
MOST_ITEMS, MOST_PROMPTS, LEAST_ITEMS = 1000, 100, 20


def line(condition: dict[str, Any]) -> float:
    """The share of uncovered prompts from which on it alarms; 5 % lie outside by construction."""
    return float(condition["threshold"])


def look(session: Session, project_id: int, rule: Asked, cursor: dict[str, Any], now: int) -> Seen:
    """One block per route and minute: a sample of the prompts that came since the last look."""
    if now - int(cursor.get("at", 0)) < MINUTE:
        return Seen(cursor=cursor)
    newest = session.exec(select(func.max(Generation.seq))).one() or 0
    after = int(cursor.get("seq", newest))
    where = (col(Generation.seq) > after, col(Generation.seq) <= newest)
    return Seen(_blocks(session, project_id, rule, now, *where), cursor={"seq": newest, "at": now})


def past(session: Session, project_id: int, rule: Asked, since: int, until: int) -> Seen:
    """One block per route and day of stored history."""
    day, blocks = 24 * 60 * MINUTE, []
    for start in range(since, until, day):
        where = (col(Generation.started_at) >= start, col(Generation.started_at) < min(until, start + day))
        blocks += _blocks(session, project_id, rule, min(until, start + day), *where)
    return Seen(blocks)


def _blocks(session: Session, project_id: int, rule: Asked, at: int, *where: Any) -> list[Evidence]:
    from evaluators.drift.prompts import coverage_gap
    from evaluators.drift.textual import features

    prompts: dict[str, list[str]] = {}
    for route in session.exec(select(Route.name).where(Route.project_id == project_id)).all():
        if matches({"route": route}, rule.matchers):
            of_route = select(Generation.input).where(
                Generation.project_id == project_id,
                Generation.route == route,
                col(Generation.input).is_not(None),
                *where,
            )
            found = session.exec(of_route.order_by(col(Generation.sample_key)).limit(MOST_PROMPTS)).all()
            if texts := [text for text in (_text(one) for one in found) if text.strip()]:
                prompts[route] = texts
    golden = _golden(session, project_id) if prompts else []
    if len(golden) < LEAST_ITEMS:
        return []
    items, blocks = features(golden), []
    for route, texts in prompts.items():
        _, outside = coverage_gap(items, features(texts))
        blocks.append(Evidence(f"route={route}", {"route": route}, at, sum(outside), len(outside)))
    return blocks


def _golden(session: Session, project_id: int) -> list[str]:
    """The prompts of the newest version of every golden set, at most a thousand."""
    newest = (
        select(func.max(GoldenVersion.id))
        .join(GoldenSet, col(GoldenSet.id) == GoldenVersion.golden_set_id)
        .where(GoldenSet.project_id == project_id)
        .group_by(col(GoldenVersion.golden_set_id))
    )
    rows = session.exec(select(GoldenItem).where(col(GoldenItem.version_id).in_(newest)).limit(MOST_ITEMS)).all()
    return [text for text in (_text(row.messages) for row in rows) if text.strip()]


def _text(given: Any) -> str:
    """What people asked, from a list of messages, its JSON, or a plain text."""
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except ValueError:
            return str(given)
    if not isinstance(given, list):
        return str(given)
    return "\n".join(
        str(one.get("content", "")) for one in given if isinstance(one, dict) and one.get("role") != "system"
    )
