"""What a project keeps: its rule for texts, for how long calls stay, and forgetting one user."""

import hashlib

from sqlmodel import Session

from driftline.errors import BadInput
from driftline.queue import request
from driftline.store.projects import audit
from driftline.store.tables import Job, Project

STORE_TEXT = ("full", "redacted", "hashed", "none")
LONGEST_DAYS = 36_500


def configure(
    session: Session, project: Project, actor: str, *, store_text: str | None = None, keep_days: int | None = None
) -> None:
    """Changes what is given. Texts that are stored already stay as they are; a `keep_days` of 0 keeps calls for ever.

    Raises:
        BadInput: A rule for texts that is none, or an age that cannot be.
    """
    if store_text is not None and store_text not in STORE_TEXT:
        raise BadInput(f"store_text is one of {', '.join(STORE_TEXT)}; got {store_text!r}.")
    if keep_days is not None and not 0 <= keep_days <= LONGEST_DAYS:
        raise BadInput(f"keep_days is from 1 to {LONGEST_DAYS}, or 0 to keep calls for ever; got {keep_days}.")
    if store_text is not None:
        project.store_text = store_text
    if keep_days is not None:
        project.keep_days = keep_days or None
    session.add(project)
    told: dict[str, object] = {"store_text": project.store_text, "keep_days": project.keep_days}
    audit(session, project.id, actor, "project.configured", f"project:{project.id}", told)


def request_erasure(session: Session, project: Project, user_id: str, actor: str) -> Job:
    """A job that deletes all calls of a user. Neither the audit nor, once it is done, the job keeps the user's name.

    Raises:
        BadInput: No user is named.
    """
    if not user_id:
        raise BadInput("Say which user: the user_id that the app sends.")
    audit_erasure(session, project, user_id, actor)
    return request(session, "user.erase", "drift", {"user_id": user_id}, project_id=project.id, subject="erasure")


def audit_erasure(session: Session, project: Project, user_id: str, actor: str) -> None:
    """Writes that a user's calls were to be deleted, under a fingerprint of the name."""
    digest = hashlib.sha256(user_id.encode("utf-8", "replace")).hexdigest()[:16]
    audit(session, project.id, actor, "user.erased", f"project:{project.id}", {"user_sha256_begins": digest})
