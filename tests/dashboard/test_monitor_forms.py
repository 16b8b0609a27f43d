"""Monitors told otherwise by form and API, rules tried, readings recomputed; or the page says why not."""

from typing import Any

import pytest
from sqlmodel import select
from starlette.testclient import TestClient

from driftline.store.engine import reading, writing
from driftline.store.tables import DriftEvent, Job, Monitor

CLICK = {"origin": "http://127.0.0.1:8400", "sec-fetch-site": "same-origin"}


def row(row_id: int) -> Monitor:
    with reading() as session:
        return session.get_one(Monitor, row_id)


def job(kind: str) -> Job:
    with reading() as session:
        return session.exec(select(Job).where(Job.kind == kind)).one()


def test_the_api_adds_a_monitor_and_tells_it_otherwise(seeded: Any, client: TestClient) -> None:
    wish = {"name": "dear", "signal": "cost", "params": {"margin": 0.1}}
    made = client.post("/api/monitors", json=wish).json()
    assert (made["detector"], made["params"]["margin"], made["status"]) == ("exceedance", 0.1, "collecting")
    assert client.post("/api/monitors", json=wish).status_code == 409
    changed = client.patch(f"/api/monitors/{made['id']}", json={"params": {"season": "hour"}, "weight": 2.0}).json()
    assert (changed["params"]["season"], changed["params"]["margin"], changed["weight"]) == ("hour", 0.1, 2.0)
    refused = client.patch(f"/api/monitors/{made['id']}", json={"params": {"season": "spring"}})
    assert refused.status_code == 422
    assert "season is one of none, hour" in refused.json()["detail"]
    assert client.post("/api/monitors/backtest", json={}).status_code == 422
    assert client.post("/api/monitors/backtest", json={"monitor": "dear"}).status_code == 202
    assert job("monitor.backtest").args["weight"] is None  # as the stored monitor has it


@pytest.mark.parametrize("weight", ['"2"', "true", "0", "-1", "1e999", "NaN", '""', "[2]"])
def test_a_weight_that_is_no_number_above_0_is_refused_in_words(weight: str, seeded: Any, client: TestClient) -> None:
    asked = [
        ("PATCH", f"/api/monitors/{seeded.ids['monitor']}", ""),
        ("POST", "/api/monitors", '"name": "n", "signal": "cost", '),
        ("POST", "/api/monitors/backtest", '"signal": "cost", '),
    ]
    for method, url, others in asked:
        body = f'{{{others}"weight": {weight}}}'
        answer = client.request(method, url, content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 422, (url, answer.text)
        assert "weight" in answer.json()["detail"]


def test_a_form_adds_a_monitor_and_goes_to_its_page(seeded: Any, client: TestClient) -> None:
    form = {"name": "tongues", "signal": "prompt_language", "route": "default"}
    answer = client.post("/monitors", data=form, headers=CLICK)
    assert answer.status_code == 303
    page = client.get(answer.headers["location"]).text
    assert "tongues" in page
    assert "It collects its reference." in page


def test_a_form_tells_a_monitor_otherwise(seeded: Any, client: TestClient) -> None:
    form = {"margin": "0.03", "weight": "2", "tags": "kind=prime", "season": "none"}
    path = f"/monitors/{seeded.ids['monitor']}/change"
    assert client.post(path, data=form, headers=CLICK).status_code == 303
    now = row(seeded.ids["monitor"])
    assert (now.params["margin"], now.params["tags"], now.weight, now.status) == (
        0.03,
        {"kind": "prime"},
        2.0,
        "collecting",
    )


@pytest.mark.parametrize(
    ("form", "says"),
    [({"margin": "much"}, "must be a number"), ({"tags": "prime"}, "NAME=VALUE"), ({"block_s": "0"}, "at least 0.001")],
)
def test_a_form_filled_wrongly_says_what_is_wrong_and_changes_nothing(
    form: dict[str, str], says: str, seeded: Any, client: TestClient
) -> None:
    before = row(seeded.ids["monitor"])
    answer = client.post(f"/monitors/{seeded.ids['monitor']}/change", data=form, headers=CLICK)
    assert answer.status_code == 422
    assert says in answer.text
    assert row(seeded.ids["monitor"]).params == before.params


def test_a_try_is_a_job_whose_answer_the_page_shows(seeded: Any, client: TestClient) -> None:
    path = f"/monitors/{seeded.ids['monitor']}"
    before = row(seeded.ids["monitor"])
    assert client.post(f"{path}/backtest", data={"margin": "0.05"}, headers=CLICK).status_code == 303
    asked = job("monitor.backtest")
    assert asked.args == {"monitor": before.name, "weight": None, "params": {"margin": 0.05}}
    assert "It is being worked out." in client.get(path).text
    with writing() as session:
        done = session.get_one(Job, asked.id)
        done.state, done.result = "done", {
            "params": {"margin": 0.05}, "block_s": 900.0, "reference": {"n": 2000}, "blocks": 480, "cut_short": False,
            "alarms": [{"at": 1_780_000_000_000_000}], "false_alarm_bound": 0.0025,
            "delays": [{"change": 0.1, "median_blocks": 14.0, "p90_blocks": None, "median_s": 12_600.0}],
        }  # fmt: skip
        session.add(done)
    page = client.get(path).text
    assert "a chance of at most 0.25" in page
    assert "14 blocks" in page
    assert row(seeded.ids["monitor"]).params == before.params


def test_an_event_is_computed_once_more_and_the_page_says_whether_it_agrees(seeded: Any, client: TestClient) -> None:
    path = f"/drift-events/{seeded.ids['event']}"
    assert client.post(f"{path}/recompute", headers=CLICK).status_code == 303
    with reading() as session:
        alarm = session.get_one(DriftEvent, seeded.ids["event"]).reading_id
    asked = job("reading.recompute")
    assert asked.args == {"reading_id": alarm}
    with writing() as session:
        done = session.get_one(Job, asked.id)
        done.state, done.result = "done", {
            "agrees": True, "because": "The same rows lead to the same statistic.", "readings_replayed": 12,
            "stored": {"statistic": 17.5}, "recomputed": {"statistic": 17.5}, "code": {"then": "1", "now": "1"},
        }  # fmt: skip
        session.add(done)
    assert "The same rows lead to the same statistic." in client.get(path).text


def test_a_foreign_key_can_neither_change_nor_try_nor_recompute_ours(
    seeded: Any, client: TestClient, foreign: dict[str, str]
) -> None:
    monitor, name = seeded.ids["monitor"], row(seeded.ids["monitor"]).name
    assert client.patch(f"/api/monitors/{monitor}", json={"weight": 9.0}, headers=foreign).status_code == 404
    assert client.post("/api/monitors/backtest", json={"monitor": name}, headers=foreign).status_code == 404
    assert client.post("/api/readings/1/recompute", headers=foreign).status_code == 404
