"""Buttons in Slack: what a verified click does and as whom, and what a forged, old or repeated one does not."""

import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from fastapi.testclient import TestClient
from sqlmodel import select

from driftline.acts import alerts, people
from driftline.errors import BadInput, Conflict
from driftline.moment import now_us
from driftline.store.engine import reading, writing
from driftline.store.projects import ensure_project
from driftline.store.tables import Alert, Silence, User

SECRET = "sesame"


@pytest.fixture
def alert(store: object) -> Alert:
    """A firing alert of a project whose Slack channel has a signing secret."""
    with writing() as session:
        project = ensure_project(session)
        address = {"url": "https://hooks.slack.com/services/x", "signing_secret": SECRET}
        alerts.add_channel(session, project.id, "slack", "slack", address, "ann")
        rule = alerts.add_rule(session, project.id, "drift", "drift", "ann", channels=["slack"])
        row = Alert(
            project_id=project.id, rule_id=rule.id, dedup_key="k", severity="page", title="Drift", fired_at=now_us(),
            labels={"route": "chat", "signal": "quality", "monitor": "m"},
        )  # fmt: skip
        session.add(row)
        person = User(name="ann", password_hash="", role="operator", slack_id="U1AB", created_at=now_us())
        session.add(person)
    return row


@pytest.fixture
def slack(alert: Alert) -> Iterator[Any]:
    """Slack's servers: they know no key, only the signing secret."""
    from driftline.cli.web import application

    with TestClient(application(collector=False, dashboard=True), base_url="http://127.0.0.1:8400") as client:

        def click(
            act: str, value: str | None = None, *, secret: str = SECRET, age_s: float = 0, alter: bytes = b"",
            member: str = "U1AB",
        ) -> Any:  # fmt: skip
            action = {"action_id": f"driftline_{act}", "value": str(alert.id) if value is None else value}
            payload = {"type": "block_actions", "user": {"id": member, "username": "ann"}, "actions": [action]}
            body, stamp = urlencode({"payload": json.dumps(payload)}).encode(), str(int(time.time() - age_s))
            digest = hmac.new(secret.encode(), f"v0:{stamp}:".encode() + body, hashlib.sha256).hexdigest()
            headers = {
                "content-type": "application/x-www-form-urlencoded", "x-slack-request-timestamp": stamp,
                "x-slack-signature": f"v0={digest}",
            }  # fmt: skip
            answer: httpx.Response = client.post("/api/slack/actions", content=body + alter, headers=headers)
            return answer

        yield click


def state() -> Alert:
    with reading() as session:
        return session.exec(select(Alert)).one()


def test_a_click_acknowledges_as_whoever_clicked(slack: Any, alert: Alert) -> None:
    answer = slack("acknowledge")
    assert answer.status_code == 200
    assert answer.json()["text"] == f"Alert {alert.id} is acknowledged by ann."
    assert (state().state, state().acknowledged_by) == ("acknowledged", "user:ann")


def test_a_click_that_comes_twice_is_told_so(slack: Any, alert: Alert) -> None:
    slack("acknowledge")
    assert slack("acknowledge").json()["text"] == f"Alert {alert.id} is acknowledged already."


def test_a_click_silences_what_is_like_it(slack: Any) -> None:
    assert slack("silence").json()["text"].startswith("Silenced until ")
    with reading() as session:
        row = session.exec(select(Silence)).one()
    assert (row.matchers, row.created_by) == ({"route": "chat", "signal": "quality"}, "user:ann")


def test_a_click_on_a_repair_that_is_not_there_does_nothing(slack: Any) -> None:
    assert "no proposed repair" in slack("reoptimize").json()["text"]


@pytest.mark.parametrize("act", ["acknowledge", "silence", "reoptimize"])
def test_whom_nobody_here_knows_may_do_nothing_whatever_they_are_called(slack: Any, act: str) -> None:
    said = slack(act, member="U9").json()["text"]
    assert said.startswith("Nobody here is U9 in Slack, so nothing was done.")
    assert "driftline user slack NAME U9" in said
    assert state().state == "firing"
    with reading() as session:
        assert session.exec(select(Silence)).all() == []


@pytest.mark.parametrize(("role", "acts"), [("viewer", False), ("operator", True), ("admin", True)])
def test_a_click_does_what_the_role_of_whoever_clicked_may_do(slack: Any, role: str, acts: bool) -> None:
    with writing() as session:
        people.set_role(session, people.find_person(session, "ann"), role, "root")
    said = slack("acknowledge").json()["text"]
    assert ("may only look, so nothing was done" in said) is not acts
    assert state().state == ("acknowledged" if acts else "firing")


def test_a_member_of_slack_is_one_person_and_its_id_is_checked(alert: Alert) -> None:
    with writing() as session:
        session.add(User(name="bob", password_hash="", role="admin", created_at=now_us()))
    with writing() as session:
        ann, bob = people.find_person(session, "ann"), people.find_person(session, "bob")
        with pytest.raises(Conflict, match="ann is U1AB in Slack"):
            people.set_slack(session, bob, "U1AB", "root")
        with pytest.raises(BadInput, match="looks like U024BE7LH"):
            people.set_slack(session, bob, "bob", "root")
        people.set_slack(session, ann, None, "root")
        people.set_slack(session, bob, "U1AB", "root")
        found = people.by_slack(session, "U1AB")
    assert found is not None
    assert found.name == "bob"


@pytest.mark.parametrize(
    "forgery", [{"secret": "guess"}, {"age_s": 301}, {"age_s": -400}, {"alter": b"&x=1"}, {"secret": ""}]
)
def test_a_forged_or_old_click_does_nothing(slack: Any, forgery: dict[str, Any]) -> None:
    assert slack("acknowledge", **forgery).status_code == 401
    assert state().state == "firing"


@pytest.mark.parametrize("value", ["", "x", "99999", "-1", "1; DROP"])
def test_a_click_on_nothing_is_no_error(slack: Any, value: str) -> None:
    assert slack("acknowledge", value).status_code in (200, 401)
    assert state().state == "firing"


def test_a_secret_of_another_project_opens_nothing(slack: Any, alert: Alert) -> None:
    with writing() as session:
        from driftline.store.tables import Project

        other = Project(name="other", created_at=now_us())
        session.add(other)
        session.flush()
        address = {"url": "https://hooks.slack.com/services/y", "signing_secret": "theirs"}
        alerts.add_channel(session, other.id, "slack", "slack", address, "eve")
    assert slack("acknowledge", secret="theirs").status_code == 401
    assert state().state == "firing"
