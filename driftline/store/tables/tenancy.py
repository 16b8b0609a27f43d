"""Who: projects, keys, people and what they did."""

from typing import Any

from sqlalchemy import UniqueConstraint
from sqlmodel import Field, SQLModel

from driftline.store.tables.columns import document, key, may_moment, may_refer, moment, refers


class Project(SQLModel, table=True):
    """A tenant. Every query is scoped by one."""

    __tablename__ = "project"
    id: int = key()
    name: str = Field(unique=True, max_length=64)
    store_text: str = Field(default="redacted")  # full | redacted | hashed | none
    false_alarms_per_year: float = Field(default=0.01)  # budget over all monitors of the project
    keep_days: int | None = None  # calls older than this are forgotten; None keeps them
    approval: str = Field(default="manual", max_length=8)  # manual | auto: who says yes to repairs
    created_at: int = moment()


class ApiKey(SQLModel, table=True):
    """A key, known by the SHA-256 of its text alone. Scopes: ingest, read, operate, admin (comma-separated).

    While a key is being exchanged for a new one, both have the same name, and the old one an `expires_at`.
    """

    __tablename__ = "api_key"
    id: int = key()
    project_id: int = refers("project.id")
    name: str = Field(max_length=64)
    sha256: str = Field(unique=True, max_length=64)
    scopes: str
    created_at: int = moment()
    revoked_at: int | None = may_moment()
    expires_at: int | None = may_moment()
    calls_per_minute: int | None = None  # what one collector takes of it; None is no limit


class User(SQLModel, table=True):
    """A person who signs in. Roles: viewer, operator, admin.

    Whoever comes from an identity provider has a `subject` (issuer and subject there) and no password.
    """

    __tablename__ = "user_account"
    id: int = key()
    name: str = Field(unique=True, max_length=64)
    password_hash: str
    role: str = Field(default="viewer")
    email: str | None = Field(default=None, max_length=254)
    subject: str | None = Field(default=None, max_length=400, unique=True)
    slack_id: str | None = Field(default=None, max_length=32, unique=True)  # whose clicks in Slack are this person's
    created_at: int = moment()


class AuditEntry(SQLModel, table=True):
    """Who did what to which thing, and when. Never changed, never deleted."""

    __tablename__ = "audit_entry"
    id: int = key()
    project_id: int | None = may_refer("project.id", index=True)
    at: int = moment()
    actor: str
    action: str
    subject: str = Field(index=True)  # "reoptimization:7"
    detail: dict[str, Any] = document()


class Lease(SQLModel, table=True):
    """Who may do what only one process may do (the clock), and until when."""

    __tablename__ = "lease"
    name: str = Field(primary_key=True, max_length=64)
    owner: str
    until: int = moment()


class Process(SQLModel, table=True):
    """A process of this installation: shown on the dashboard, so that a dead one is seen."""

    __tablename__ = "process"
    __table_args__ = (UniqueConstraint("host", "name"),)
    id: int = key()
    host: str
    name: str
    pid: int
    started_at: int = moment()
    seen_at: int = moment()
    restarts: int = 0
    last_exit: str | None = None
