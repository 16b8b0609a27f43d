"""Projects, and the keys that open them."""

import hashlib
import secrets
from dataclasses import dataclass

from sqlmodel import Session, col, select

from driftline.errors import BadInput, Conflict, NotFound
from driftline.moment import now_us
from driftline.store.tables import ApiKey, AuditEntry, Project

SCOPES = ("ingest", "read", "operate", "admin")
DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever a request comes from: the project it may touch, what it may do, and the name for the audit."""

    project_id: int
    scopes: frozenset[str]
    name: str

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


def create_key(session: Session, project: Project, name: str, scopes: list[str], actor: str) -> str:
    """A new key's text, shown this once.

    Raises:
        BadInput: An unknown scope.
        Conflict: The project has a living key of that name.
    """
    unknown = set(scopes) - set(SCOPES)
    if unknown or not scopes:
        raise BadInput(f"A key's scopes are any of {', '.join(SCOPES)}; got {', '.join(sorted(unknown)) or 'none'}.")
    living = select(ApiKey).where(
        ApiKey.project_id == project.id, ApiKey.name == name, col(ApiKey.revoked_at).is_(None)
    )
    if session.exec(living).first() is not None:
        raise Conflict(
            f"The project {project.name} has a key named {name} already. Revoke it first, or choose another name."
        )
    key = "dl_" + secrets.token_urlsafe(32)
    row = ApiKey(project_id=project.id, name=name, sha256=hash_key(key), scopes=",".join(scopes), created_at=now_us())
    session.add(row)
    session.flush()
    audit(session, project.id, actor, "key.created", f"key:{row.id}", {"name": name, "scopes": scopes})
    return key


def revoke_key(session: Session, project: Project, name: str, actor: str) -> None:
    """Takes a key's power from now on.

    Raises:
        NotFound: No living key of that name.
    """
    living = select(ApiKey).where(ApiKey.project_id == project.id, col(ApiKey.revoked_at).is_(None))
    rows = {row.name: row for row in session.exec(living)}
    if name not in rows:
        raise NotFound("key", name, rows)
    rows[name].revoked_at = now_us()
    session.add(rows[name])
    audit(session, project.id, actor, "key.revoked", f"key:{rows[name].id}", {"name": name})


def caller_of_key(session: Session, key: str) -> Caller | None:
    """Who holds the key, None when nobody (any more) does."""
    row = session.exec(select(ApiKey).where(ApiKey.sha256 == hash_key(key))).first()
    if row is None or row.revoked_at is not None:
        return None
    return Caller(row.project_id, frozenset(row.scopes.split(",")), f"key:{row.name}")


def any_key(session: Session) -> bool:
    """Whether any living key exists."""
    return session.exec(select(ApiKey.id).where(col(ApiKey.revoked_at).is_(None)).limit(1)).first() is not None


def audit(
    session: Session, project_id: int | None, actor: str, action: str, subject: str, detail: dict[str, object]
) -> None:
    """Writes who did what to which thing."""
    session.add(
        AuditEntry(project_id=project_id, at=now_us(), actor=actor, action=action, subject=subject, detail=detail)
    )
