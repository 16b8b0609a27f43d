"""What machines ask."""

import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

ROOT = Path(__file__).resolve().parents[2]


def test_a_process_with_store_and_broker_is_ready(seeded: Any, client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "alive"}
    assert client.get("/readyz").json() == {"store": "ok", "broker": "ok"}


def test_without_its_store_it_is_alive_but_not_ready(
    data_dir: Any, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRIFTLINE_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    from driftline.settings import settings

    settings.cache_clear()

    answer = client.get("/readyz")

    assert client.get("/healthz").status_code == 200
    assert (answer.status_code, answer.json()["store"]) == (503, "does not answer")


def test_without_its_broker_it_is_not_ready(seeded: Any, client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    from driftline.queue import messenger
    from driftline.settings import settings

    monkeypatch.setenv("DRIFTLINE_BROKER_URL", "redis://127.0.0.1:1/0")
    settings.cache_clear()
    messenger.cache_clear()

    answer = client.get("/readyz")

    assert (answer.status_code, answer.json()) == (503, {"store": "ok", "broker": "does not answer"})


def test_reasons_that_clients_make_up_are_one_label(seeded: Any) -> None:
    from fastapi import FastAPI

    from dashboard import health
    from driftline.store.engine import writing
    from driftline.store.tables import ClientCount

    with writing() as session:
        for n in range(50):
            told = {"client": "c", "variant": "v", "reason": f"made up {n}", "n": 2, "updated_at": 0}
            session.add(ClientCount(project_id=seeded.project_id, **told))
    app = FastAPI()
    app.include_router(health.routes())
    text = TestClient(app).get("/metrics").text
    assert 'driftline_not_stored_total{reason="other"} 100.0' in text
    assert "made up" not in text


def test_every_reason_that_the_sdk_explains_is_a_label_of_its_own(seeded: Any) -> None:
    from fastapi import FastAPI

    from dashboard import health
    from driftline.store.engine import writing
    from driftline.store.tables import CLIENT_REASONS, ClientCount

    rows = (ROOT / "docs" / "sdk.md").read_text().split("| reason of a drop |")[1].split("\n\n")[0].splitlines()[2:]
    explained = {reason for row in rows for reason in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert "spool_lost" in explained
    with writing() as session:
        for reason in explained:
            told = {"client": "each", "variant": "v", "reason": reason, "n": 1, "updated_at": 0}
            session.add(ClientCount(project_id=seeded.project_id, **told))
    app = FastAPI()
    app.include_router(health.routes())

    shown = set(re.findall(r'driftline_not_stored_total{reason="(\w+)"}', TestClient(app).get("/metrics").text))

    assert explained <= shown
    assert explained == CLIENT_REASONS


def test_metrics_are_prometheus_and_count_the_store(seeded: Any) -> None:
    from fastapi import FastAPI

    from dashboard import health

    app = FastAPI()
    app.include_router(health.routes())
    text = TestClient(app).get("/metrics").text
    found = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }

    assert found[("driftline_generations_total",)] > 1000
    assert found[("driftline_not_stored_total", ("reason", "duplicates"))] == 12
    assert found[("driftline_jobs", ("queue", "replay"), ("state", "running"))] == 1
    assert found[("driftline_alerts", ("state", "firing"))] == 2
    assert found[("driftline_oldest_job_wait_seconds",)] >= 60
    assert "default" not in text


def test_a_scrape_adds_up_the_last_hours_alone(seeded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from sqlalchemy import event, select

    from dashboard import health
    from driftline.moment import DAY, now_us
    from driftline.store.engine import engine, reading, writing
    from driftline.store.tables import Rollup

    past, statements = health._Past(), list[str]()

    def totals() -> tuple[list[int], dict[str, int]]:
        with reading() as session:
            return past.totals(session)

    def add(at: int) -> None:
        with writing() as session:
            known = session.scalars(select(Rollup).limit(1)).one()
            session.add(Rollup(project_id=known.project_id, variant_id=known.variant_id, minute=at, n=7, errors=2))

    (stored, failed, cost), refused = totals()
    assert refused["duplicates"] == 12
    event.listen(engine(), "before_cursor_execute", lambda *given: statements.append(given[2]))
    add(now_us())
    assert totals() == ([stored + 7, failed + 2, cost], refused)
    sums = [one for one in statements if "sum(" in one]
    assert sums
    assert all("minute >= " in one for one in sums)
    add(now_us() - DAY)  # it comes late: told when the past is added up again
    assert totals()[0][0] == stored + 7
    monkeypatch.setattr(health, "PAST_FRESH_S", 0.0)
    assert totals()[0][0] == stored + 14
