"""Budgets: what the calls of a sliding window cost, or the tokens they took; per route where the rule groups by it."""

from collections import deque
from typing import Any

from sqlmodel import Session, col, func, select

from driftline.acts.matching import matches
from driftline.moment import SECOND
from driftline.store.tables import Rollup
from scheduler.measures import Asked
from scheduler.measures.seen import Fact, Seen


def look(session: Session, project_id: int, rule: Asked, cursor: dict[str, Any], now: int) -> Seen:
    """Per stream, whether the window that ends now is above the budget."""
    since = now - int(float(rule.condition["window_s"]) * SECOND)
    query: Any = select(Rollup.route, _amount(rule)).where(Rollup.project_id == project_id, col(Rollup.minute) > since)
    sums: dict[str, float] = {"": 0.0} if "route" not in rule.group_by else {}
    for route, amount in session.exec(query.group_by(Rollup.route)):
        if matches({"route": route}, rule.matchers):
            key = f"route={route}" if "route" in rule.group_by else ""
            sums[key] = sums.get(key, 0.0) + _unit(rule, amount)
    return Seen(facts=[_fact(rule, key, amount, now) for key, amount in sums.items()])


def past(session: Session, project_id: int, rule: Asked, since: int, until: int) -> Seen:
    """Per stream and minute of stored history, where the window was above the budget and where it came back."""
    window = int(float(rule.condition["window_s"]) * SECOND)
    query: Any = select(Rollup.route, Rollup.minute, _amount(rule)).where(
        Rollup.project_id == project_id, col(Rollup.minute) > since - window, col(Rollup.minute) < until
    )
    streams: dict[str, dict[int, float]] = {}
    for route, minute, amount in session.exec(query.group_by(Rollup.route, Rollup.minute).order_by(Rollup.minute)):
        if matches({"route": route}, rule.matchers):
            mine = streams.setdefault(f"route={route}" if "route" in rule.group_by else "", {})
            mine[minute] = mine.get(minute, 0.0) + _unit(rule, amount)
    facts = []
    for key, amounts in streams.items():
        inside: deque[tuple[int, float]] = deque()
        total = 0.0
        for minute, amount in sorted(amounts.items()):
            while inside and inside[0][0] <= minute - window:
                left, gone = inside.popleft()
                total -= gone
                if left + window >= since:
                    facts.append(_fact(rule, key, total, left + window))
            inside.append((minute, amount))
            total += amount
            if minute >= since:
                facts.append(_fact(rule, key, total, minute))
        for left, gone in inside:
            total -= gone
            if left + window < until:
                facts.append(_fact(rule, key, max(0.0, total), left + window))
    return Seen(facts=sorted(facts, key=lambda fact: fact.at))


def _amount(rule: Asked) -> Any:
    return func.sum(Rollup.cost_nano) if rule.on == "cost" else func.sum(Rollup.input_tokens + Rollup.output_tokens)


def _unit(rule: Asked, amount: Any) -> float:
    return float(amount or 0) / (1e9 if rule.on == "cost" else 1.0)


def _fact(rule: Asked, key: str, amount: float, at: int) -> Fact:
    budget, hours = float(rule.condition["threshold"]), float(rule.condition["window_s"]) / 3600
    spent, most = (f"${amount:,.2f}", f"${budget:,.2f}") if rule.on == "cost" else (f"{amount:,.0f}", f"{budget:,.0f}")
    what = "The calls" if not key else f"The calls of {key.replace('=', ' ')}"
    took = "cost" if rule.on == "cost" else "took tokens:"
    return Fact(
        key, {"route": key.partition("=")[2]} if key else {}, at, amount >= budget, amount,
        f"{what} of the last {hours:g} hours {took} {spent}; the budget is {most}.", {"Spent": spent, "Budget": most},
    )  # fmt: skip
