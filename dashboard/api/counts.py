"""Exact counts of what was captured and of what was not."""

from fastapi import APIRouter
from pydantic import BaseModel, Field

from dashboard.api.caller import Reader
from dashboard.api.failing import ApiRoute
from dashboard.capture import captures
from dashboard.measures import captured
from driftline.store.engine import reading


class VariantCounts(BaseModel):
    """All-time counts of one variant."""

    variant: str
    generations: int
    sampled_out: int
    dropped: dict[str, int] = Field(description="Why SDKs could not send, and how often: queue_full, rejected, …")
    captured_share: float | None


class Counts(BaseModel):
    """All-time counts of one project."""

    generations: int = Field(description="Calls stored.")
    duplicates: int = Field(description="Calls handed in again and not stored again.")
    rejected: int = Field(description="Records the collector refused.")
    dropped_by_clients: int = Field(description="Calls SDKs say they could not send.")
    sampled_out: int = Field(description="Calls SDKs say they left out on purpose.")
    captured_share: float | None = Field(description="Stored among all known calls, 0 to 1; null before the first.")
    variants: list[VariantCounts] = Field(description="The same of each variant, as far as SDKs tell.")


def routes() -> APIRouter:
    """GET /counts."""
    router = APIRouter(tags=["traffic"], route_class=ApiRoute)

    @router.get("/counts", summary="Captured and not captured")
    def counts(caller: Reader) -> Counts:
        """Exact counts; `captured_share` is what every estimate on traffic rests on."""
        with reading() as session:
            found = captured(session, caller.project_id)
            each = captures(session, caller.project_id)
        return Counts(
            generations=found.generations, duplicates=found.duplicates, rejected=found.rejected,
            dropped_by_clients=found.dropped_by_clients, sampled_out=found.sampled_out, captured_share=found.share,
            variants=[
                VariantCounts(
                    variant=name, generations=one.stored, sampled_out=one.sampled_out, dropped=one.dropped,
                    captured_share=one.share,
                )
                for name, one in each.items()
            ],
        )  # fmt: skip

    return router
