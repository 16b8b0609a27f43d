"""People who sign in: who they are and what they may do."""

import re
from collections.abc import Sequence

from sqlmodel import Session, col, func, select

from driftline.errors import BadInput, Conflict, NotFound
from driftline.moment import now_us
from driftline.store.projects import audit
from driftline.store.tables import User

ROLES = {
    "viewer": frozenset({"read"}),
    "operator": frozenset({"read", "operate"}),
    "admin": frozenset({"read", "operate", "admin"}),
}
LEAST_PASSWORD = 10  # characters
SLACK_ID = re.compile(r"[UW][A-Z0-9]{2,30}")


def people(session: Session) -> Sequence[User]:
    """Everybody, by name."""
    return session.exec(select(User).order_by(User.name)).all()


def find_person(session: Session, name: str) -> User:
    """The person of that name.

    Raises:
        NotFound: Lists who there is.
    """
    row = session.exec(select(User).where(User.name == name)).first()
    if row is None:
        raise NotFound("person", name, [one.name for one in people(session)])
    return row


def set_person(session: Session, name: str, password: str, role: str, actor: str) -> User:
    """A person with a password; one that is there gets password and role anew, and their sessions end.

    Raises:
        BadInput: No name, an unknown role, or a password that is too short.
        Conflict: The name belongs to somebody who comes from the identity provider, or the last admin would go.
    """
    from argon2 import PasswordHasher

    if not 1 <= len(name.strip()) <= 64:
        raise BadInput(f"A name has 1 to 64 characters; got {len(name.strip())}.")
    if len(password) < LEAST_PASSWORD:
        raise BadInput(f"A password has at least {LEAST_PASSWORD} characters.")
    row = session.exec(select(User).where(User.name == name.strip())).first()
    if row is not None and row.subject is not None:
        raise Conflict(f"{name} signs in at the identity provider and has no password here.")
    if row is None:
        row = User(name=name.strip(), password_hash="", role=_checked(role), created_at=now_us())
    _keep_an_admin(session, row, role)
    row.password_hash, row.role = PasswordHasher().hash(password), _checked(role)
    session.add(row)
    session.flush()
    audit(session, None, actor, "user.set", f"user:{row.id}", {"name": row.name, "role": role})
    return row


def set_role(session: Session, row: User, role: str, actor: str) -> None:
    """What a person may do from now on.

    Raises:
        BadInput: An unknown role.
        Conflict: They are the last admin.
    """
    before = row.role
    _keep_an_admin(session, row, _checked(role))
    row.role = role
    session.add(row)
    audit(session, None, actor, "user.role_set", f"user:{row.id}", {"name": row.name, "from": before, "role": role})


def set_slack(session: Session, row: User, slack_id: str | None, actor: str) -> None:
    """Says who a person is in Slack: their clicks there are theirs, and do what their role may. None: nobody there.

    Raises:
        BadInput: It is no member id of Slack.
        Conflict: Somebody else is that member.
    """
    if slack_id is not None and not SLACK_ID.fullmatch(slack_id):
        raise BadInput(
            f"A member id of Slack looks like U024BE7LH; got {slack_id!r}. In Slack: the profile, ⋮, Copy member ID."
        )
    other = by_slack(session, slack_id) if slack_id is not None else None
    if other is not None and other.id != row.id:
        raise Conflict(f"{other.name} is {slack_id} in Slack. Take it from them first.")
    row.slack_id = slack_id
    session.add(row)
    session.flush()
    audit(session, None, actor, "user.slack_set", f"user:{row.id}", {"name": row.name, "slack_id": slack_id})


def by_slack(session: Session, slack_id: str) -> User | None:
    """The person who is that member in Slack, None where nobody said so."""
    return session.exec(select(User).where(User.slack_id == slack_id)).first()


def remove_person(session: Session, row: User, actor: str) -> None:
    """Takes a person's access; what they did stays on record under their name.

    Raises:
        Conflict: They are the last admin.
    """
    _keep_an_admin(session, row, None)
    audit(session, None, actor, "user.removed", f"user:{row.id}", {"name": row.name, "role": row.role})
    session.delete(row)
    session.flush()


def welcome(session: Session, subject: str, name: str, email: str | None, role: str) -> User:
    """The person whom the identity provider knows by this subject; a new one gets the role.

    A name that is taken is never merged with: whoever may choose names there could become anybody here.

    Raises:
        BadInput: An unknown role.
    """
    row = session.exec(select(User).where(User.subject == subject)).first()
    if row is not None:
        row.email = email
        session.add(row)
        return row
    wanted = (name.strip() or "somebody")[:56]
    taken = set(session.exec(select(User.name).where(col(User.name).startswith(wanted, autoescape=True))))
    chosen = next(one for one in (wanted, *(f"{wanted} ({n})" for n in range(2, len(taken) + 3))) if one not in taken)
    row = User(name=chosen, password_hash="", role=_checked(role), email=email, subject=subject, created_at=now_us())
    session.add(row)
    session.flush()
    audit(session, None, f"user:{chosen}", "user.came", f"user:{row.id}", {"name": chosen, "role": role})
    return row


def _checked(role: str) -> str:
    if role not in ROLES:
        raise BadInput(f"A role is one of {', '.join(ROLES)}; got {role!r}.")
    return role


def _keep_an_admin(session: Session, row: User, role: str | None) -> None:
    if row.role != "admin" or role == "admin" or row.id is None:
        return
    admins = session.exec(select(func.count(col(User.id))).where(User.role == "admin")).one()
    if admins == 1:
        raise Conflict(f"{row.name} is the last admin. Make somebody else one first.")
