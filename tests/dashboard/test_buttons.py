"""Buttons: one click, one act, and the page says what was done, or why not."""

from typing import Any

import pytest
from sqlmodel import select
from starlette.testclient import TestClient

from dashboard.acts import ACTS
from driftline.store.engine import reading
from driftline.store.tables import Alert, Channel, DriftEvent, Monitor, Reoptimization, Replay, Route, Schedule, Silence

CLICK = {"origin": "http://127.0.0.1:8400", "sec-fetch-site": "same-origin"}
CLICKS = [
    ("/alerts/{alert}/acknowledge", Alert, "alert", "state", "acknowledged"),
    ("/alerts/{alert}/resolve", Alert, "alert", "state", "resolved"),
    ("/drift-events/{event}/close", DriftEvent, "event", "state", "closed"),
    ("/monitors/{monitor}/pause", Monitor, "monitor", "status", "paused"),
    ("/monitors/{monitor}/rebaseline", Monitor, "monitor", "status", "collecting"),
    ("/reoptimizations/{proposed}/approve", Reoptimization, "proposed", "state", "approved"),
    ("/reoptimizations/{proposed}/reject", Reoptimization, "proposed", "state", "rejected"),
    ("/reoptimizations/{proposed}/cancel", Reoptimization, "proposed", "state", "cancelled"),
    ("/replays/{running}/cancel", Replay, "running", "state", "cancelled"),
    ("/schedules/{schedule}/disable", Schedule, "schedule", "enabled", False),
    ("/channels/{channel}/test", Channel, "channel", "name", "team-slack"),
]


@pytest.mark.parametrize(("path", "table", "name", "column", "wanted"), CLICKS)
def test_a_click_acts_and_the_page_says_so(
    path: str, table: Any, name: str, column: str, wanted: Any, seeded: Any, client: TestClient
) -> None:
    page = "/alerts" if "channels" in path or "schedules" in path else path.format(**seeded.ids).rpartition("/")[0]

    answer = client.post(path.format(**seeded.ids), headers=CLICK | {"referer": f"http://127.0.0.1:8400{page}"})

    assert (answer.status_code, answer.headers["location"]) == (303, page), answer.text
    with reading() as session:
        assert getattr(session.get_one(table, seeded.ids[name]), column) == wanted
    said = next(act.said for act in ACTS if path.endswith(f"/{act.verb}") and path.startswith(f"/{act.of}/"))
    assert said in client.get(page).text
    assert said not in client.get(page).text  # once is enough


def test_a_second_click_is_told_that_the_state_has_moved_on(seeded: Any, client: TestClient) -> None:
    path = f"/reoptimizations/{seeded.ids['proposed']}/approve"
    client.post(path, headers=CLICK)

    answer = client.post(path, headers=CLICK)

    assert answer.status_code == 409
    assert "It has moved on" in answer.text
    assert "only one that is proposed can become approved" in answer.text


def test_an_alert_is_silenced_by_what_it_is_about(seeded: Any, client: TestClient) -> None:
    answer = client.post(
        f"/alerts/{seeded.ids['alert']}/silence", data={"hours": "8h", "comment": "known"}, headers=CLICK
    )

    assert answer.status_code == 303
    with reading() as session:
        silence = session.exec(select(Silence).where(Silence.comment == "known")).one()
    assert silence.matchers == {"route": "default", "signal": "quality", "variant": "smollm2-int8"}
    assert "silenced" in client.get(f"/alerts/{seeded.ids['alert']}").text


@pytest.mark.parametrize("hours", ["", "0h", "-1h", "99999h", "soon"])
def test_a_silence_has_a_length(hours: str, seeded: Any, client: TestClient) -> None:
    answer = client.post(f"/alerts/{seeded.ids['alert']}/silence", data={"hours": hours}, headers=CLICK)

    assert answer.status_code == 422


def test_a_replay_starts_from_a_variants_page(seeded: Any, client: TestClient) -> None:
    form = {"variant": "smollm2-int8", "golden_set": "capitals", "baseline": "smollm2-fp32"}

    answer = client.post("/replays", data=form, headers=CLICK)

    assert answer.status_code == 303
    assert "queued" in client.get(answer.headers["location"]).text


def test_promoting_and_rolling_back_from_the_page(seeded: Any, client: TestClient) -> None:
    client.post("/routes/promote", data={"route": "default", "variant": "smollm2-bf16"}, headers=CLICK)
    with reading() as session:
        assert session.exec(select(Route)).one().version == 4

    client.post("/routes/rollback", data={"route": "default"}, headers=CLICK)
    with reading() as session:
        assert session.exec(select(Route)).one().production_variant_id == seeded.ids["variant"]


@pytest.mark.parametrize("act", ACTS, ids=lambda act: f"{act.of}-{act.verb}")
def test_no_button_reaches_another_project(act: Any, seeded: Any, client: TestClient) -> None:
    answer = client.post(f"/{act.of}/{seeded.foreign_ids[act.of]}/{act.verb}", headers=CLICK)

    assert answer.status_code == 404
