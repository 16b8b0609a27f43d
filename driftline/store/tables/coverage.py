"""How far golden sets cover what people ask."""

from typing import Any

from sqlalchemy import Index
from sqlmodel import Field, SQLModel

from driftline.store.tables.columns import document, key, moment, refers


class Coverage(SQLModel, table=True):
    """A golden version against a window of traffic: the share outside it, the uncovered groups, who stands for whom."""

    __tablename__ = "coverage"
    __table_args__ = (Index("ix_coverage_version", "golden_version_id", "id"),)
    id: int = key()
    project_id: int = refers("project.id")
    golden_version_id: int = refers("golden_version.id", index=False)
    route: str = Field(default="", max_length=64)  # empty: all routes
    since: int = moment()
    until: int = moment()
    n_prompts: int
    n_items: int  # golden items that were embedded
    encoder: str
    radius: float
    outside: float
    low: float
    high: float
    expected: float
    expected_high: float
    groups: list[dict[str, Any]] = document(list)  # share, size, typical prompts, ids of their generations
    weights: dict[str, float] = document()  # item id → weight by which results become today's
    sample_hash: str = Field(max_length=64)  # of the generations looked at
    created_at: int = moment()
