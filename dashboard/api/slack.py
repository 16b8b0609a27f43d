"""POST /api/slack/actions: clicks on the buttons of Slack messages, verified by Slack's signature.

https://docs.slack.dev/authentication/verifying-requests-from-slack
"""

import hashlib
import hmac
import json
import time
from typing import Any
from urllib.parse import parse_qs

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from sqlmodel import Session, select
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from driftline.acts import alerts, reoptimizations
from driftline.acts.people import ROLES, by_slack
from driftline.errors import DriftlineError, Forbidden, NotFound, Unauthenticated
from driftline.moment import HOUR, iso, now_us
from driftline.store.engine import reading, writing
from driftline.store.secrets import unseal
from driftline.store.tables import Alert, Channel, Reoptimization

TOLERANCE_S = 300  # Slack's own advice
MOST_BYTES = 100_000
SILENCE_H = 8
SCOPE = "operate"  # what a role must hold for any of the buttons, as on the pages


def routes() -> APIRouter:
    """The address that a Slack app's interactivity points at."""
    router = APIRouter(tags=["slack"])

    @router.post("/slack/actions", summary="Buttons of Slack messages", include_in_schema=False)
    async def clicked(request: Request) -> JSONResponse:
        """Carries out what was clicked, as the person who clicked and by their role, and says what came of it."""
        body = await request.body()
        stamp = request.headers.get("x-slack-request-timestamp", "")
        signature = request.headers.get("x-slack-signature", "")
        try:
            said = await run_in_threadpool(carry_out, body, stamp, signature)
        except Unauthenticated as error:
            return JSONResponse({"detail": error.message}, 401)
        return JSONResponse({"response_type": "ephemeral", "replace_original": False, "text": said})

    return router


def carry_out(body: bytes, stamp: str, signature: str) -> str:
    """Does what a verified click asks for; gives the sentence for whoever clicked.

    Raises:
        Unauthenticated: The signature is none of the alert's project, or too old: nothing was done.
    """
    refused = Unauthenticated("This request does not carry a valid signature of Slack.")
    if len(body) > MOST_BYTES or not stamp.isdecimal() or abs(time.time() - int(stamp)) > TOLERANCE_S:
        raise refused
    try:
        payload = json.loads(parse_qs(body.decode())["payload"][0])
        action = payload["actions"][0]
        act, number = str(action["action_id"]), int(action.get("value") or 0)
        member = str(payload["user"]["id"])
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        raise refused from None
    with reading() as session:
        # Even a link's button is verified first, against any installed channel, so that nobody probes for alerts.
        alert = session.get(Alert, number)
        if not any(is_signed(secret, body, stamp, signature) for secret in _secrets(session, alert)):
            raise refused
    if act == "driftline_open" or alert is None:
        return "Opened in Driftline."
    try:
        with writing() as session:
            who = _person(session, member)
            return _act(session, session.get_one(Alert, alert.id), act, who)
    except DriftlineError as error:
        return error.message


def is_signed(secret: str, body: bytes, stamp: str, signature: str) -> bool:
    """Whether Slack, who knows the secret, sent this body at this time.

    >>> digest = hmac.new(b"s", b"v0:7:x", hashlib.sha256).hexdigest()
    >>> is_signed("s", b"x", "7", "v0=" + digest), is_signed("t", b"x", "7", "v0=" + digest)
    (True, False)
    """
    wanted = "v0=" + hmac.new(secret.encode(), f"v0:{stamp}:".encode() + body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(wanted.encode(), signature.encode())


def _secrets(session: Session, alert: Alert | None) -> list[str]:
    query = select(Channel).where(Channel.kind.in_(("slack", "slack-bot")))  # type: ignore[attr-defined]
    query = query if alert is None else query.where(Channel.project_id == alert.project_id)
    sealed = [row.secret for row in session.exec(query) if row.secret is not None]
    found: list[dict[str, Any]] = [json.loads(unseal(secret)) for secret in sealed]
    return [one["signing_secret"] for one in found if one.get("signing_secret")]


def _person(session: Session, member: str) -> str:
    """As whom the person who clicked acts.

    Raises:
        Forbidden: Nobody here is that member of Slack, or their role may not do it.
    """
    person = by_slack(session, member)
    if person is None:
        raise Forbidden(
            f"Nobody here is {member} in Slack, so nothing was done. "
            f"An admin can say who you are: driftline user slack NAME {member}"
        )
    if not ROLES.get(person.role, frozenset()) & {SCOPE, "admin"}:
        raise Forbidden(
            f"{person.name} is {person.role} here and may only look, so nothing was done. "
            f"An admin can make you an operator: driftline user role {person.name} operator"
        )
    return f"user:{person.name}"


def _act(session: Session, alert: Alert, act: str, who: str) -> str:
    match act:
        case "driftline_acknowledge":
            alerts.acknowledge(session, alert, who)
            return f"Alert {alert.id} is acknowledged by {who.partition(':')[2]}."
        case "driftline_silence":
            named = {name: alert.labels[name] for name in ("route", "signal", "variant") if alert.labels.get(name)}
            until = now_us() + SILENCE_H * HOUR
            row = alerts.silence(session, alert.project_id, named or dict(alert.labels), until, who, "from Slack")
            return f"Silenced until {iso(row.until)}."
        case "driftline_reoptimize":
            proposed = select(Reoptimization).where(
                Reoptimization.drift_event_id == alert.drift_event_id, Reoptimization.state == "proposed"
            )
            repair = session.exec(proposed).first() if alert.drift_event_id is not None else None
            if repair is None:
                raise NotFound("proposed repair of alert", alert.id)
            reoptimizations.approve(session, repair, who)
            return f"Repair {repair.id} is approved: candidates are being built."
    raise NotFound("action", act, ("driftline_acknowledge", "driftline_silence", "driftline_reoptimize"))
