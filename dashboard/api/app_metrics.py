"""The `gen_ai.*` metrics that apps export by themselves, as series beside the calls."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from dashboard.api.caller import Reader, Since, Until, moment_of
from dashboard.api.failing import ApiRoute
from dashboard.api.series import MOST
from dashboard.metric_series import MetricSpan, metric_names, metric_series
from driftline.errors import BadInput
from driftline.moment import HOUR, SECOND, iso, now_us
from driftline.store.engine import reading


class MetricValue(BaseModel):
    """What one stream of a metric added in one span."""

    labels: dict[str, str] = Field(description="The attributes that tell it apart.")
    at: str = Field(description="Start of the span, RFC 3339.")
    n: int = Field(description="Measurements; 0 for a plain sum.")
    total: float = Field(description="Sum of the measurements.")
    mean: float | None


class MetricSeries(BaseModel):
    """One metric over time, oldest first."""

    name: str
    unit: str
    since: str
    until: str
    step_s: int
    points: list[MetricValue]


class MetricName(BaseModel):
    """A metric that apps have sent."""

    name: str
    unit: str


def routes() -> APIRouter:
    """GET /app-metrics and /app-metrics/{name}."""
    router = APIRouter(tags=["traffic"], route_class=ApiRoute)

    @router.get("/app-metrics", summary="Metrics that apps export")
    def names(caller: Reader) -> list[MetricName]:
        """Names of the `gen_ai.*` metrics that came in over OTLP."""
        with reading() as session:
            found = metric_names(session, caller.project_id)
        return [MetricName(name=name, unit=unit) for name, unit in found.items()]

    @router.get("/app-metrics/{name}", summary="One metric over time")
    def series(
        name: str, caller: Reader, since: Since = None, until: Until = None,
        step_s: Annotated[int, Query(ge=60, le=86_400, multiple_of=60)] = 60,
    ) -> MetricSeries:  # fmt: skip
        """What each stream added per span, whether it was sent as sums that grow or as differences; the last hour."""
        end = moment_of(until, "until") or now_us()
        start = moment_of(since, "since")
        start = end - HOUR if start is None else start
        if not start < end or (end - start) / (step_s * SECOND) > MOST:
            raise BadInput(f"`since` must lie before `until`, by at most {MOST} times `step_s`.")
        with reading() as session:
            unit = metric_names(session, caller.project_id).get(name, "")
            found = metric_series(session, caller.project_id, name, start, end, step_s * SECOND)
        return MetricSeries(
            name=name, unit=unit, since=iso(start), until=iso(end), step_s=step_s, points=[_value(p) for p in found]
        )

    return router


def _value(span: MetricSpan) -> MetricValue:
    return MetricValue(labels=span.labels, at=iso(span.at), n=span.n, total=span.total, mean=span.mean)
