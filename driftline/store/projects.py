"""Projects, and the keys that open them."""

import hashlib
import secrets
from dataclasses import dataclass

from sqlmodel import Session, col, or_, select
from sqlmodel.sql.expression import SelectOfScalar

from driftline.errors import BadInput, Conflict, NotFound
from driftline.moment import YEAR, now_us
from driftline.store.tables import ApiKey, AuditEntry, Project

SCOPES = ("ingest", "read", "operate", "admin")
DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever a request comes from: the project it may touch, what it may do, and the name for the audit."""

    project_id: int
    scopes: frozenset[str]
    name: str
    calls_per_minute: int | None = None

    def may(self, scope: str) -> bool:
        """Whether the caller has the scope; admins have all."""
        return scope in self.scopes or "admin" in self.scopes


def ensure_project(session: Session, name: str = DEFAULT) -> Project:
    """The project of that name, made when missing."""
    found = session.exec(select(Project).where(Project.name == name)).first()
    if found is not None:
        return found
    project = Project(name=name, created_at=now_us())
    session.add(project)
    session.flush()
    return project


def find_project(session: Session, name: str) -> Project:
    """The project of that name.

    Raises:
        NotFound: Lists the projects there are.
    """
    found = session.exec(select(Project).where(Project.name == name)).first()
    if found is None:
        raise NotFound("project", name, session.exec(select(Project.name)).all())
    return found


def hash_key(key: str) -> str:
    """What is stored of a key: keys are long and random, so a plain SHA-256 is enough."""
    return hashlib.sha256(key.encode()).hexdigest()


def create_key(
    session: Session, project: Project, name: str, scopes: list[str], actor: str, calls_per_minute: int | None = None
) -> str:
    """A new key's text, shown this once; `calls_per_minute` is what a collector takes of it, None is no limit.

    Raises:
        BadInput: An unknown scope, or a limit below one.
        Conflict: The project has a living key of that name.
    """
    if calls_per_minute is not None and calls_per_minute < 1:
        raise BadInput(f"A key's limit is at least one call a minute; got {calls_per_minute}. Leave it out for none.")
    unknown = set(scopes) - set(SCOPES)
    if unknown or not scopes:
        raise BadInput(f"A key's scopes are any of {', '.join(SCOPES)}; got {', '.join(sorted(unknown)) or 'none'}.")
    if session.exec(_living(project).where(ApiKey.name == name)).first() is not None:
        raise Conflict(
            f"The project {project.name} has a key named {name} already. Revoke it first, or choose another name."
        )
    key, row = _new_key(session, project.id, name, ",".join(scopes), calls_per_minute)
    audit(session, project.id, actor, "key.created", f"key:{row.id}", {"name": name, "scopes": scopes})
    return key


def _new_key(session: Session, project_id: int, name: str, scopes: str, limit: int | None) -> tuple[str, ApiKey]:
    key = "dl_" + secrets.token_urlsafe(32)
    row = ApiKey(
        project_id=project_id, name=name, sha256=hash_key(key), scopes=scopes, created_at=now_us(),
        calls_per_minute=limit,
    )  # fmt: skip
    session.add(row)
    session.flush()
    return key, row


def rotate_key(session: Session, project: Project, name: str, overlap_us: int, actor: str) -> str:
    """A new key of the same name, scopes and limit; the old one works for `overlap_us` (microseconds) more.

    Raises:
        BadInput: An overlap below zero or above a year.
        NotFound: No living key of that name.
        Conflict: Its last exchange is not over yet.
    """
    if not 0 <= overlap_us <= YEAR:
        raise BadInput("The overlap of an old key and a new one is between nothing and a year.")
    held = _keys_named(session, project, name)
    if len(held) > 1:
        raise Conflict(
            f"The key {name} was exchanged before, and the old one still works. Wait for its end, or revoke {name} "
            "and make a new one."
        )
    held[0].expires_at = now_us() + overlap_us
    session.add(held[0])
    key, row = _new_key(session, project.id, name, held[0].scopes, held[0].calls_per_minute)
    audit(session, project.id, actor, "key.rotated", f"key:{row.id}", {"name": name, "old": held[0].id})
    return key


def _living(project: Project) -> SelectOfScalar[ApiKey]:
    alive = or_(col(ApiKey.expires_at).is_(None), col(ApiKey.expires_at) > now_us())
    return select(ApiKey).where(ApiKey.project_id == project.id, col(ApiKey.revoked_at).is_(None), alive)


def _keys_named(session: Session, project: Project, name: str) -> list[ApiKey]:
    rows = session.exec(_living(project).order_by(col(ApiKey.id))).all()
    found = [row for row in rows if row.name == name]
    if not found:
        raise NotFound("key", name, sorted({row.name for row in rows}))
    return found


def revoke_key(session: Session, project: Project, name: str, actor: str) -> None:
    """Takes a key's power from now on; also of the one it is being exchanged for.

    Raises:
        NotFound: No living key of that name.
    """
    for row in _keys_named(session, project, name):
        row.revoked_at = now_us()
        session.add(row)
        audit(session, project.id, actor, "key.revoked", f"key:{row.id}", {"name": name})


def caller_of_key(session: Session, key: str) -> Caller | None:
    """Who holds the key, None when nobody (any more) does."""
    row = session.exec(select(ApiKey).where(ApiKey.sha256 == hash_key(key))).first()
    if row is None or row.revoked_at is not None or (row.expires_at is not None and row.expires_at <= now_us()):
        return None
    return Caller(row.project_id, frozenset(row.scopes.split(",")), f"key:{row.name}", row.calls_per_minute)


def any_key(session: Session) -> bool:
    """Whether any key exists that was not revoked."""
    return session.exec(select(ApiKey.id).where(col(ApiKey.revoked_at).is_(None)).limit(1)).first() is not None


def audit(
    session: Session, project_id: int | None, actor: str, action: str, subject: str, detail: dict[str, object]
) -> None:
    """Writes who did what to which thing."""
    session.add(
        AuditEntry(project_id=project_id, at=now_us(), actor=actor, action=action, subject=subject, detail=detail)
    )
