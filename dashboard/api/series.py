"""Traffic over time per variant, from Rollups alone: the cost does not grow with the calls behind them."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field, TypeAdapter
from sqlmodel import col, select

from dashboard.api.caller import Reader, Since, Until, VariantName, moment_of, variant_id_of
from dashboard.api.failing import ApiRoute
from dashboard.measures import Traffic, traffic
from driftline.errors import BadInput
from driftline.moment import HOUR, MINUTE, SECOND, iso, now_us
from driftline.store.engine import reading
from driftline.store.tables import Variant

MOST = 5000
_JSON: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])


class Point(BaseModel):
    """One variant in one span."""

    variant: str
    at: str = Field(description="Start of the span, RFC 3339.")
    n: int
    errors: int
    aborted: int
    input_tokens: int
    output_tokens: int
    cost_nano: int = Field(description="Nano-dollars.")
    latency_mean_ms: float | None
    latency_p50_ms: float | None
    latency_p95_ms: float | None
    ttft_p50_ms: float | None
    sketched: int = Field(description="How many latencies the quantiles rest on.")


class Series(BaseModel):
    """Points, oldest first, by variant within a span."""

    since: str
    until: str
    step_s: int
    points: list[Point]


def routes() -> APIRouter:
    """GET /series."""
    router = APIRouter(tags=["traffic"], route_class=ApiRoute)

    @router.get("/series", summary="Traffic over time", response_model=Series)
    def series(
        caller: Reader, variant: VariantName = None, route: str | None = None, since: Since = None,
        until: Until = None, step_s: Annotated[int, Query(ge=60, le=86_400, multiple_of=60)] = 60,
    ) -> Response:  # fmt: skip
        """Calls, errors, tokens, cost and latency per variant and span; the last hour where no span is given."""
        end = moment_of(until, "until") or now_us()
        start = moment_of(since, "since")
        start = end - HOUR if start is None else start
        step = step_s * SECOND
        if not start < end:
            raise BadInput("`since` must lie before `until`.")
        if (end - start) / step > MOST:
            raise BadInput(
                f"That is more than {MOST} spans. Ask for a larger `step_s` ({step_s} now) or a shorter time."
            )
        with reading() as session:
            chosen = variant_id_of(session, caller, variant)
            points = traffic(
                session, caller.project_id, start - start % MINUTE, end, step,
                variant_id=chosen, route=route, limit=4 * MOST,
            )  # fmt: skip
            ids = {point.variant_id for point in points}
            names = dict(session.exec(select(Variant.id, Variant.name).where(col(Variant.id).in_(ids))).all())
        starts = {at: iso(at) for at in {point.at for point in points}}
        told = {
            "since": iso(start), "until": iso(end), "step_s": step_s,
            "points": [_told(point, names[point.variant_id], starts[point.at]) for point in points],
        }  # fmt: skip
        return Response(_JSON.dump_json(told), media_type="application/json")

    return router


def _told(point: Traffic, variant: str, start: str) -> dict[str, Any]:
    """A `Point`, without the checks that would take half of the answer's time."""
    return {
        "variant": variant, "at": start, "n": point.n, "errors": point.errors, "aborted": point.aborted,
        "input_tokens": point.input_tokens, "output_tokens": point.output_tokens, "cost_nano": point.cost_nano,
        "latency_mean_ms": point.latency_mean_ms, "latency_p50_ms": point.p50_ms, "latency_p95_ms": point.p95_ms,
        "ttft_p50_ms": point.ttft_p50_ms, "sketched": point.sketched,
    }  # fmt: skip
