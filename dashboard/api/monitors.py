"""Monitors by hand: adding one, telling it otherwise, trying a rule on stored history, recomputing a reading."""

from typing import Any

from fastapi import APIRouter
from pydantic import Field

from dashboard.acts import find_row
from dashboard.api.caller import Doer
from dashboard.api.failing import ApiRoute, Wish
from dashboard.api.shapes import shape, shaped
from driftline.acts import monitors, trials
from driftline.store.engine import reading, writing
from driftline.store.tables import Job, Monitor

PARAMS = (
    "margin, block_s, min_block_items, reference_items, reference_s, tags, season, split_by; every_s and items where a "
    "job measures the signal."
)


class MonitorWish(Wish):
    """A stream to watch."""

    name: str = Field(min_length=1, max_length=128)
    signal: str = Field(examples=["errors", "latency", "quality", "cost"])
    route: str = "default"
    source: str = Field("", description="The evaluator or golden set that the signal reads.")
    weight: float = Field(1.0, gt=0, description="Share of the false-alarm budget, relative to the others.")
    params: dict[str, Any] = Field({}, description=PARAMS)


class MonitorChange(Wish):
    """What of a monitor can change. Another weight keeps its reference; other parameters take a new one."""

    weight: float | None = Field(None, gt=0)
    params: dict[str, Any] = Field({}, description=PARAMS)


class Trial(Wish):
    """A stored monitor told otherwise, or a rule that does not exist yet."""

    monitor: str = Field("", description="Name of a stored monitor; leave empty for a new rule.")
    signal: str = ""
    route: str = "default"
    source: str = ""
    weight: float | None = Field(None, gt=0, description="As the stored monitor has it, else 1.")
    params: dict[str, Any] = Field({}, description=PARAMS)


def routes() -> APIRouter:
    """POST /monitors, PATCH /monitors/{id}, POST /monitors/backtest and /readings/{id}/recompute."""
    router = APIRouter(tags=["monitors"], route_class=ApiRoute)

    @router.post("/monitors", status_code=201, response_model=shape(Monitor), summary="Add a monitor")
    def add(wish: MonitorWish, caller: Doer) -> Any:
        """A monitor that collects its reference first, then judges block after block."""
        with writing() as session:
            row = monitors.add(
                session, caller.project_id, wish.name, wish.signal, caller.name, route=wish.route, source=wish.source,
                weight=wish.weight, params=wish.params,
            )  # fmt: skip
        with reading() as session:
            return shaped(session, Monitor, [row])[0]

    @router.patch("/monitors/{row_id}", response_model=shape(Monitor), summary="Change a monitor")
    def change(row_id: int, wish: MonitorChange, caller: Doer) -> Any:
        """Tells a monitor otherwise; the audit keeps what it was told before."""
        with writing() as session:
            row = find_row(session, Monitor, row_id, caller.project_id, "monitor")
            monitors.change(session, row, caller.name, weight=wish.weight, params=wish.params)
            session.flush()
            session.refresh(row)
        with reading() as session:
            return shaped(session, Monitor, [row])[0]

    @router.post("/monitors/backtest", status_code=202, response_model=shape(Job), summary="Backtest a rule")
    def backtest(wish: Trial, caller: Doer) -> Any:
        """A job whose `result` says how often the rule would have fired, its false-alarm bound and its delay."""
        with writing() as session:
            row = trials.request_backtest(session, caller.project_id, wish.model_dump())
        with reading() as session:
            return shaped(session, Job, [row])[0]

    @router.post(
        "/readings/{row_id}/recompute", status_code=202, response_model=shape(Job), summary="Recompute a reading"
    )
    def recompute(row_id: int, caller: Doer) -> Any:
        """A job whose `result` says whether the stored rows lead to the stored statistic."""
        with writing() as session:
            row = trials.request_recompute(session, caller.project_id, row_id)
        with reading() as session:
            return shaped(session, Job, [row])[0]

    return router
