"""All tables, one import away; importing this fills the metadata that migrations are checked against."""

from sqlalchemy import Table
from sqlmodel import SQLModel

from driftline.store.tables.alerts import (
    Alert,
    AlertPart,
    AlertRule,
    Channel,
    Inhibition,
    Notification,
    Reoptimization,
    RuleState,
    Silence,
)
from driftline.store.tables.coverage import Coverage
from driftline.store.tables.golden import GoldenItem, GoldenSet, GoldenVersion
from driftline.store.tables.heldout import HeldOutUse
from driftline.store.tables.jobs import QUEUES, Bookmark, Firing, Job, Schedule
from driftline.store.tables.lineage import VARIANT_STATES, Artifact, PriceTable, Route, Variant
from driftline.store.tables.monitors import DriftEvent, Monitor, Observation, Reading, Reference
from driftline.store.tables.replays import Answer, Comparison, Replay, Score
from driftline.store.tables.tenancy import ApiKey, AuditEntry, Lease, Process, Project, User
from driftline.store.tables.traffic import (
    CLIENT_REASONS,
    NOT_ONLY_CLIENTS,
    ClientCount,
    Feedback,
    Generation,
    GenerationKey,
    Intake,
    MetricPoint,
    Rollup,
    SpanMessage,
)

METADATA = SQLModel.metadata


def tables_of(dialect: str) -> list[Table]:
    """The tables of a database ("sqlite" or "postgresql"), each after those it refers to."""
    return [table for table in METADATA.sorted_tables if table.info.get("only", dialect) == dialect]


__all__ = [
    "CLIENT_REASONS", "METADATA", "NOT_ONLY_CLIENTS", "QUEUES", "VARIANT_STATES", "Alert", "AlertPart", "AlertRule",
    "Answer", "ApiKey", "Artifact", "AuditEntry", "Bookmark", "Channel", "ClientCount", "Comparison", "Coverage",
    "DriftEvent", "Feedback", "Firing", "Generation", "GenerationKey", "GoldenItem", "GoldenSet", "GoldenVersion",
    "HeldOutUse", "Inhibition", "Intake", "Job", "Lease", "MetricPoint", "Monitor", "Notification", "Observation",
    "PriceTable", "Process", "Project", "Reading", "Reference", "Reoptimization", "Replay", "Rollup", "Route",
    "RuleState", "Schedule", "Score", "Silence", "SpanMessage", "User", "Variant", "tables_of",
]  # fmt: skip
