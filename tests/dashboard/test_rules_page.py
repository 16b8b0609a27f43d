"""Rules on the pages and in the API: tried on history before they are saved, refused with a sentence, turned off."""

from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlmodel import select

from driftline.acts import alerts
from driftline.moment import HOUR, now_us
from driftline.store.engine import reading, writing
from driftline.store.projects import ensure_project
from driftline.store.tables import AlertRule, Silence

SITE = {"origin": "http://127.0.0.1:8400", "sec-fetch-site": "same-origin"}


@pytest.fixture
def client(store: object) -> Any:
    """A browser, or a program, on this machine; a channel named team is there."""
    from driftline.cli.web import application

    with writing() as session:
        project = ensure_project(session)
        alerts.add_channel(session, project.id, "team", "webhook", {"url": "https://example.com/x"}, "ann")
    with TestClient(application(collector=False, dashboard=True), base_url="http://127.0.0.1:8400") as made:
        made.headers.update(SITE)
        yield made


def test_a_rule_is_tried_on_history_and_saved(client: Any, work_off: Any) -> None:
    wish = {"on": "cost", "condition": "threshold=10 window_s=3600", "matchers": "route=chat", "lasting": "15m"}
    waiting = client.post("/rules/preview", data=wish)
    assert waiting.status_code == 200
    assert "Looking back over 30 days." in waiting.text
    assert work_off(["rule.preview"]) == [("rule.preview", "done")]
    answered = client.get(waiting.url.path)
    assert "It would have fired 0 times in 30 days" in answered.text
    assert 'value="threshold=10 window_s=3600"' in answered.text, "what was tried is in the form"
    saved = client.post("/rules", data={**wish, "name": "dear", "channels": ["team"], "severity": "warning"})
    assert "The rule dear is saved." in saved.text
    with reading() as session:
        rule = session.exec(select(AlertRule)).one()
    assert (rule.on, rule.condition, rule.for_s) == ("cost", {"threshold": 10.0, "window_s": 3600.0}, 900.0)
    assert (rule.matchers, rule.channels, rule.severity) == ({"route": "chat"}, ["team"], "warning")
    off = client.post(f"/rules/{rule.id}/disable")
    assert "Turn on" in client.get("/rules").text
    assert off.status_code == 200


def test_a_rule_that_cannot_work_is_refused_with_a_sentence(client: Any) -> None:
    answer = client.post("/rules", data={"name": "x", "on": "cost", "channels": ["team"]})
    assert answer.status_code == 422
    assert "needs a threshold" in answer.text
    nameless = client.post("/rules", data={"name": " ", "on": "drift", "channels": ["team"]})
    assert (nameless.status_code, "between 1 and 64 characters" in nameless.text) == (422, True)


def test_programs_try_and_save_rules(client: Any, work_off: Any) -> None:
    wish = {"on": "error_rate", "condition": {"threshold": 0.1}, "days": 7}
    job = client.post("/api/rules/preview", json=wish)
    assert job.status_code == 202
    work_off(["rule.preview"])
    told = client.get(f"/api/jobs/{job.json()['id']}").json()["result"]
    assert (told["times"], told["days"]) == (0, 7.0)
    assert "false-alarm bound 1.00% a year" in told["says"]
    saved = client.post("/api/rules", json={"name": "errors", "on": "error_rate", "channels": ["team"]})
    assert saved.status_code == 201
    assert saved.json()["condition"] == {"threshold": 0.05}
    assert [row["name"] for row in client.get("/api/rules").json()["items"]] == ["errors"]
    assert client.post(f"/api/rules/{saved.json()['id']}/disable").json()["enabled"] is False
    assert client.post("/api/rules", json={"name": "x", "on": "drift", "channels": ["nobody"]}).status_code == 404


def test_channels_are_listed_without_their_addresses(client: Any) -> None:
    (row,) = client.get("/api/channels").json()["items"]
    assert row["name"] == "team"
    assert "secret" not in row
    assert "example.com" not in client.get("/alerts").text


def test_maintenance_windows_are_set_and_silences_ended(client: Any) -> None:
    wish = {"matchers": {"route": "~chat.*"}, "until": "2099-01-01T00:00:00Z", "cron": "0 2 * * 0", "lasts_s": 3600}
    made = client.post("/api/silences", json=wish)
    assert (made.status_code, made.json()["cron"]) == (201, "0 2 * * 0")
    assert "in windows of" in client.get("/alerts").text
    assert client.post(f"/api/silences/{made.json()['id']}/end").status_code == 200
    assert client.post(f"/api/silences/{made.json()['id']}/end").status_code == 409
    with reading() as session:
        assert session.exec(select(Silence.until)).one() <= now_us() < 4_070_908_800_000_000 + HOUR


def test_the_schema_of_alerts_is_published(client: Any) -> None:
    assert client.get("/api/schemas/alert.json").json()["title"] == "What a webhook is told of an alert"
