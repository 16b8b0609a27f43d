"""Variants: how answers are made, what they came from and what an app asks for."""

from typing import Any

from sqlalchemy import BigInteger, UniqueConstraint
from sqlmodel import Field, SQLModel

from driftline.store.tables.columns import BIG_KEY, document, key, may_moment, may_refer, may_text, moment, refers

VARIANT_STATES = ("candidate", "shadow", "canary", "production", "retired")


class Variant(SQLModel, table=True):
    """How answers are made: a runner and a chain of recipes, content-hashed. `name` is the alias apps send.

    A name that traffic brings and nobody declared registers itself with the runner "external" and no recipe.
    """

    __tablename__ = "variant"
    __table_args__ = (UniqueConstraint("project_id", "name"),)
    id: int = key()
    project_id: int = refers("project.id", index=False)
    name: str = Field(max_length=128)
    content_hash: str = Field(max_length=64, index=True)
    spec: dict[str, Any] = document()  # runner, runner_config, chain
    parent_id: int | None = may_refer("variant.id")
    state: str = "candidate"
    build_state: str = "declared"  # declared | building | built | failed
    build_error: str | None = may_text()
    fingerprint: str | None = None
    measured: dict[str, Any] = document()
    note: str | None = may_text()
    created_at: int = moment()
    built_at: int | None = may_moment()


class Artifact(SQLModel, table=True):
    """Bytes that a project keeps under their content hash: weights, reports."""

    __tablename__ = "artifact"
    project_id: int = Field(foreign_key="project.id", sa_type=BIG_KEY, primary_key=True)
    sha256: str = Field(primary_key=True, max_length=64)
    kind: str
    media_type: str
    size: int = Field(sa_type=BigInteger)
    url: str
    created_at: int = moment()


class Route(SQLModel, table=True):
    """What an app asks for; points at the production variant and, while one is tried, a canary and its share."""

    __tablename__ = "route"
    __table_args__ = (UniqueConstraint("project_id", "name"),)
    id: int = key()
    project_id: int = refers("project.id", index=False)
    name: str = Field(max_length=64)
    production_variant_id: int | None = may_refer("variant.id")
    baseline_variant_id: int | None = may_refer("variant.id")  # whom production is judged against
    canary_variant_id: int | None = may_refer("variant.id")
    canary_share: float = 0.0
    version: int = 1
    approval: str | None = Field(default=None, max_length=8)  # manual | auto; None: as the project has it
    rollout: dict[str, Any] = document()  # how a repair comes to serve: see driftline.acts.routes.Rollout
    updated_at: int = moment()


class PriceTable(SQLModel, table=True):
    """Prices by model, in nano-dollars a token. A new version is a new row; old costs keep theirs."""

    __tablename__ = "price_table"
    __table_args__ = (UniqueConstraint("project_id", "version"),)
    id: int = key()
    project_id: int = refers("project.id", index=False)
    version: int
    prices: dict[str, Any] = document()  # model → {"input": nano, "output": nano}
    created_at: int = moment()
