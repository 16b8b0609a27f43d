"""Production traffic: what was asked and answered, what people said of it, and what of it was captured."""

from typing import Any

from sqlalchemy import BigInteger, Connection, ForeignKeyConstraint, Index, UniqueConstraint, event
from sqlalchemy import text as sql
from sqlmodel import Field, SQLModel

from driftline.store.ids import PART, id_hash
from driftline.store.tables.columns import BIG_KEY, count, document, key, may_bytes, may_text, moment, refers, text


def _of_known(column: str) -> tuple[Index, Index]:
    # Lists of one session or user; calls without one cost nothing. Names come at random, so in one index of them all
    # each new call writes a page of its own. SQLite keeps them by some thousand calls each, PostgreSQL by days anyway.
    name = f"ix_generation_{column.removesuffix('_id')}"
    names = ("project_id", column, "started_at")
    known = sql(f"{column} IS NOT NULL")
    in_parts = Index(f"{name}_part", sql(PART), *names, sqlite_where=known, info={"only": "sqlite"})
    return Index(f"{name}_started", *names, postgresql_where=known, info={"only": "postgresql"}), in_parts


def _checked(target: str) -> ForeignKeyConstraint:
    # per call it takes PostgreSQL half as long again: there the collector asks once a commit, and a trigger who deletes
    return ForeignKeyConstraint([f"{target}_id"], [f"{target}.id"], info={"only": "sqlite"})


class Generation(SQLModel, table=True):
    """One production call. `seq` is the order of arrival, by which monitors read each row once, late ones too.

    That an id is one call's in its project, whoever writes sees to by GenerationKey.
    """

    __tablename__ = "generation"
    __table_args__ = (
        *(_checked(target) for target in ("project", "variant")),
        Index("ix_generation_project_started", "project_id", "started_at"),
        Index("ix_generation_route_seq", "project_id", "route", "seq"),
        *_of_known("session_id"),
        *_of_known("user_id"),
        # on SQLite a key is never given twice, else a reader would pass over the second row
        {"sqlite_autoincrement": True, "postgresql_partition_by": "RANGE (seq)"},
    )
    seq: int = key()
    project_id: int = Field(sa_type=BIG_KEY)
    id: str = Field(max_length=64)
    started_at: int = moment()
    received_at: int = moment()
    variant_id: int = Field(sa_type=BIG_KEY)
    route: str = Field(default="default", max_length=64)
    model: str | None = None
    input: str | None = may_text()  # JSON list of messages, or null where text is not stored
    output: str | None = may_text()
    input_chars: int = 0
    output_chars: int = 0
    latency_ms: float | None = None
    ttft_ms: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_nano: int | None = Field(default=None, sa_type=BigInteger)  # nano-dollars
    price_version: int | None = None
    status: str = "ok"  # ok | error | aborted
    error: str | None = may_text()
    session_id: str | None = None
    user_id: str | None = None
    tags: dict[str, str] = document()
    sample_rate: float = 1.0
    sample_key: int = Field(sa_type=BigInteger)  # hash of the id, signed 64 bits: orders bounded samples


class GenerationKey(SQLModel, table=True):
    """Which Generation may have an id: its `seq` beside the hash of its project and id, see `driftline.store.ids`."""

    __tablename__ = "generation_key"
    __table_args__ = {"sqlite_with_rowid": False}
    hash: int = Field(primary_key=True, sa_type=BigInteger)  # on SQLite with its level above it
    seq: int = Field(primary_key=True, sa_type=BigInteger)


@event.listens_for(Generation, "after_insert")
def _add_key(_mapper: Any, connection: Connection, added: Generation) -> None:
    # for rows added one by one; the collector writes keys by the batch
    entry = {"hash": id_hash(added.project_id, added.id), "seq": added.seq}
    connection.execute(GenerationKey.__table__.insert(), entry)  # type: ignore[attr-defined]


class SpanMessage(SQLModel, table=True):
    """A message that came as an event of its own, before or after its span: kept until the call is whole."""

    __tablename__ = "span_message"
    __table_args__ = (UniqueConstraint("project_id", "generation_id", "digest"),)
    id: int = key()
    project_id: int = refers("project.id", index=False)
    generation_id: str = Field(max_length=64)
    digest: str = Field(max_length=64)  # of all that follows: sent again it is the same message
    at: int = moment()
    role: str | None = Field(default=None, max_length=64)  # None where it is an answer
    content: str = text()
    chars: int = 0  # as it was sent
    joined: bool = False  # whether it is part of its Generation by now


def _hash_of_call(context: Any) -> int:
    told = context.get_current_parameters()
    return id_hash(told["project_id"], told["generation_id"])


class Feedback(SQLModel, table=True):
    """A score, a label or the true answer that a user or app attached to a Generation, perhaps days later."""

    __tablename__ = "feedback"
    __table_args__ = (
        UniqueConstraint("project_id", "id"),
        Index("ix_feedback_project_generation", "project_id", "generation_id"),
    )
    seq: int = key()
    project_id: int = refers("project.id", index=False)
    id: str = Field(max_length=64)
    generation_id: str = Field(max_length=64)
    call_hash: int = Field(default=None, sa_type=BigInteger, sa_column_kwargs={"default": _hash_of_call})
    name: str = Field(max_length=64)
    value: float | None = None
    label: str | None = may_text()  # where the value was a text: the true answer has the name "expected"
    comment: str | None = may_text()
    received_at: int = moment()


class Rollup(SQLModel, table=True):
    """What one commit added to a project × variant × route × minute. Append-only; readers add rows up."""

    __tablename__ = "rollup"
    __table_args__ = (Index("ix_rollup_project_minute", "project_id", "minute"),)
    id: int = key()
    project_id: int = refers("project.id", index=False)
    variant_id: int = refers("variant.id", index=False)
    route: str = Field(default="default", max_length=64)
    minute: int = moment()  # start of the minute of started_at
    n: int = count()
    errors: int = count()
    aborted: int = count()
    input_tokens: int = count()
    output_tokens: int = count()
    cost_nano: int = count()
    latency_n: int = count()
    latency_sum_ms: float = 0.0
    weight_sum: float = 0.0  # sum of 1 / sample_rate: how many calls the rows stand for
    latency_sketch: bytes | None = may_bytes()  # KLL sketch of floats
    ttft_sketch: bytes | None = may_bytes()


class Intake(SQLModel, table=True):
    """What the collector was handed and did not store as new, per minute and reason. Append-only."""

    __tablename__ = "intake"
    __table_args__ = (Index("ix_intake_project_minute", "project_id", "minute"),)
    id: int = key()
    project_id: int = refers("project.id", index=False)
    minute: int = moment()
    reason: str  # duplicates | rejected | other_spans
    n: int = count()


class MetricPoint(SQLModel, table=True):
    """A point of a `gen_ai.*` metric as an app's own exporter sent it: beside the calls, never counted as calls.

    `stream` is a hash of everything that tells streams apart. A cumulative stream grows from `start_at` on, so what
    happened between two points is their difference; a delta is that itself.
    """

    __tablename__ = "metric_point"
    __table_args__ = (
        UniqueConstraint("project_id", "stream", "at"),
        Index("ix_metric_point_project_name_at", "project_id", "name", "at"),
    )
    id: int = key()
    project_id: int = refers("project.id", index=False)
    name: str = Field(max_length=128)
    unit: str = Field(default="", max_length=32)
    stream: str = Field(max_length=32)
    labels: dict[str, str] = document()  # model, operation, provider, token type
    is_cumulative: bool = False
    start_at: int = moment()
    at: int = moment()
    n: int = count()  # measurements; 1 for a gauge
    total: float = 0.0  # their sum; the value of a gauge


# what our own SDK says; kept here as the SDK stands alone
CLIENT_REASONS = frozenset(
    {"sampled_out", "queue_full", "too_large", "spool_full", "spool_lost", "rejected", "redacted", "redact_failed",
     "unencodable", "exit"}
)  # fmt: skip
# no loss that only the client knows of: left out on purpose, or refused and counted by the collector itself
NOT_ONLY_CLIENTS = frozenset({"sampled_out", "rejected"})


class ClientCount(SQLModel, table=True):
    """What an SDK says it did not send. Counts are cumulative per client, so the largest one heard is the truth."""

    __tablename__ = "client_count"
    __table_args__ = (UniqueConstraint("project_id", "client", "variant", "reason"),)
    id: int = key()
    project_id: int = refers("project.id", index=False)
    client: str = Field(max_length=64)
    variant: str = Field(max_length=128)
    reason: str = Field(max_length=64)  # CLIENT_REASONS, or what another client calls its own
    n: int = count()
    updated_at: int = moment()
