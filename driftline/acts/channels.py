"""Channels: where notices go. One row per kind says what its address holds."""

import json
from dataclasses import dataclass
from urllib.parse import urlsplit

from sqlmodel import Session, select

from driftline.errors import BadInput, NotFound
from driftline.moment import now_us
from driftline.queue import request
from driftline.store.projects import audit
from driftline.store.secrets import seal
from driftline.store.tables import Channel, Job


@dataclass(frozen=True, slots=True)
class Kind:
    """What the address of a channel holds; all of it is encrypted.

    `web` names the fields that are http(s) addresses. Where `gathers` is false every alert goes out by itself. What
    `keeps` something per alert, a message or an incident, is also told when somebody acknowledges it.
    """

    needs: tuple[str, ...]
    takes: tuple[str, ...] = ()
    web: tuple[str, ...] = ("url",)
    gathers: bool = True
    keeps: bool = False


KINDS: dict[str, Kind] = {
    "slack": Kind(("url",), ("signing_secret",)),
    "slack-bot": Kind(("token", "channel"), ("signing_secret", "url"), keeps=True),
    "webhook": Kind(("url",), ("secret",)),
    "pagerduty": Kind(("routing_key",), ("url",), gathers=False, keeps=True),
    "email": Kind(("host", "to", "from"), ("port", "user", "password", "security"), web=()),
    "teams": Kind(("url",)),
    "discord": Kind(("url",)),
    "github": Kind(("repository", "token"), ("url", "event_type")),
    "apprise": Kind(("urls",), web=()),
}


def add_channel(
    session: Session, project_id: int, name: str, kind: str, address: dict[str, str], actor: str
) -> Channel:
    """A channel; its address is encrypted and never shown again. An address given anew replaces the old one.

    Raises:
        BadInput: An unknown kind, or an address without its fields.
    """
    if kind not in KINDS:
        raise BadInput(f"There is no channel kind {kind!r}. Known: {', '.join(KINDS)}.")
    if not name or len(name) > 64:
        raise BadInput("A channel's name has between 1 and 64 characters.")
    _check(kind, address)
    row = session.exec(select(Channel).where(Channel.project_id == project_id, Channel.name == name)).first()
    row = row or Channel(project_id=project_id, name=name, kind=kind, created_at=now_us())
    row.kind, row.secret, row.failing_since, row.last_error = kind, seal(json.dumps(address)), None, None
    session.add(row)
    session.flush()
    audit(session, project_id, actor, "channel.set", f"channel:{row.id}", {"name": name, "kind": kind})
    return row


def _check(kind: str, address: dict[str, str]) -> None:
    wanted = KINDS[kind]
    missing = [field for field in wanted.needs if not address.get(field, "").strip()]
    unknown = set(address) - set(wanted.needs) - set(wanted.takes)
    if missing or unknown:
        may = f" and may have {', '.join(wanted.takes)}" if wanted.takes else ""
        raise BadInput(f"A {kind} channel has {', '.join(wanted.needs)}{may}.")
    for field in wanted.web:
        if field in address and not _is_web_address(address[field]):
            raise BadInput(f"The {field} of a {kind} channel starts with https:// or http:// and names a host.")
    if kind == "email" and not address.get("port", "587").isdecimal():
        raise BadInput("The port of an email channel is a number, e.g. 587.")
    if kind == "email" and address.get("security", "starttls") not in ("starttls", "tls", "none"):
        raise BadInput("The security of an email channel is starttls, tls or none.")
    if kind == "github" and address["repository"].strip("/").count("/") != 1:
        raise BadInput("The repository of a github channel is OWNER/NAME.")


def _is_web_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:  # a port that is none, a bracket that stays open
        return False


def find_channel(session: Session, project_id: int, name: str) -> Channel:
    """The channel of that name.

    Raises:
        NotFound: Lists the channels there are.
    """
    known = {row.name: row for row in session.exec(select(Channel).where(Channel.project_id == project_id))}
    if name not in known:
        raise NotFound("channel", name, known)
    return known[name]


def test_channel(session: Session, channel: Channel, actor: str) -> Job:
    """A job that sends a test notice through the channel."""
    audit(session, channel.project_id, actor, "channel.tested", f"channel:{channel.id}", {})
    return request(
        session, "channel.test", "notify", {"channel_id": channel.id, "actor": actor},
        project_id=channel.project_id, subject=f"channel:{channel.id}", max_attempts=1,
    )  # fmt: skip
