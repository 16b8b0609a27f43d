"""Lists and series over months of calls: whole, whatever lies between the calls, and of every span something."""

import random
import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import event
from starlette.testclient import TestClient

from collector.retention import fold_rollups
from driftline.cli.web import application
from driftline.moment import DAY, HOUR, MINUTE, iso, now_us
from driftline.store.engine import engine, reading, writing
from driftline.store.projects import ensure_project
from driftline.store.tables import Rollup

STATUSES = ("ok", "error", "aborted")


@pytest.fixture
def web(database: str) -> Iterator[TestClient]:
    with writing() as session:
        ensure_project(session)
    with TestClient(application(collector=True, dashboard=True), base_url="http://127.0.0.1:8400") as client:
        yield client


def record(name: str, days_ago: float, variant: str = "v", status: str = "ok", **more: Any) -> dict[str, Any]:
    said = {"error": "no"} if status == "error" else {"output": "x"}
    return (
        {"id": name, "started_at": time.time() - days_ago * 86_400, "variant": variant, "status": status} | said | more
    )


def send(web: TestClient, records: list[dict[str, Any]]) -> None:
    for start in range(0, len(records), 500):
        part = records[start : start + 500]
        assert web.post("/v1/records", json={"records": part}).json()["accepted"] == len(part)


def listed(web: TestClient, **asked: Any) -> list[str]:
    names: list[str] = []
    while True:
        page = web.get("/api/generations", params=asked).raise_for_status().json()
        names += [row["id"] for row in page["items"]]
        if page["next_cursor"] is None:
            return names
        asked["cursor"] = page["next_cursor"]


@pytest.mark.parametrize("seed", range(3))
def test_a_narrowed_list_is_whole_and_in_order(web: TestClient, seed: int) -> None:
    draw = random.Random(seed)
    ages = [draw.choice((draw.uniform(0, 0.05), draw.uniform(0, 2), 5 + draw.uniform(0, 0.01), 40)) for _ in range(150)]
    records = [
        record(f"r{n}", age, draw.choices(("v", "w"), (9, 1))[0], draw.choices(STATUSES, (8, 1, 1))[0])
        for n, age in enumerate(sorted(ages))
    ]
    shuffled = draw.sample(records, len(records))
    send(web, shuffled[:120])
    with reading() as session:
        project = ensure_project(session).id
    fold_rollups(project, now_us() - HOUR, MINUTE)
    fold_rollups(project, now_us() - DAY, HOUR)
    send(web, shuffled[120:])  # late ones stand beside what is folded
    arrived = {entry["id"]: place for place, entry in enumerate(shuffled)}
    newest = sorted(records, key=lambda entry: (entry["started_at"], arrived[entry["id"]]), reverse=True)
    since = iso(now_us() - 3 * DAY)
    for variant in (None, "v", "w"):
        for status in (None, *STATUSES):
            wanted = [
                entry for entry in newest
                if variant in (None, entry["variant"]) and status in (None, entry["status"])
            ]  # fmt: skip
            asked = {name: value for name, value in (("variant", variant), ("status", status)) if value is not None}
            assert listed(web, **asked, limit=7) == [entry["id"] for entry in wanted]
            recent = [entry["id"] for entry in wanted if entry["started_at"] > time.time() - 3 * 86_400]
            assert listed(web, **asked, limit=50, since=since) == recent
            assert listed(web, **asked, limit=50, until=since) == [e["id"] for e in wanted if e["id"] not in recent]


def test_a_variant_that_has_not_answered_for_long_is_found_without_reading_what_came_since(web: TestClient) -> None:
    send(web, [record(f"old{n}", 30, "old") for n in range(5)] + [record(f"new{n}", n / 100) for n in range(400)])
    if engine().dialect.name == "sqlite":
        steps = 0

        def step() -> int:
            nonlocal steps
            steps += 1
            return 0

        @event.listens_for(engine(), "checkout")
        def count(connection: Any, *_: Any) -> None:
            connection.set_progress_handler(step, 100)

        assert len(listed(web, variant="old")) == 5
        old, steps = steps, 0
        assert len(listed(web, variant="v", limit=1000)) == 400
        assert old < steps / 3
    assert listed(web, variant="old") == [f"old{n}" for n in reversed(range(5))]


def test_every_span_of_a_long_series_has_quantiles(web: TestClient) -> None:
    from dashboard.measures import SKETCHES, traffic

    send(web, [record("one", 0, latency_ms=100.0, ttft_ms=10.0)])
    end = now_us() // DAY * DAY
    with writing() as session:
        project = ensure_project(session).id
        (made,) = session.query(Rollup).all()
        values = made.model_dump(exclude={"id"})
        for minute in range(3 * SKETCHES):  # a hundred spans of half an hour
            session.add(Rollup(**values | {"minute": end - DAY * 30 + minute * MINUTE}))
    for step, spans in ((30 * MINUTE, 100), (2 * MINUTE, 1500)):  # with a sample of the rows, and one row of each span
        with reading() as session:
            points = traffic(session, project, end - DAY * 30, end - DAY, step)
        assert len(points) == spans
        assert [(point.n, point.latency_sum_ms) for point in points] == [
            (step // MINUTE, step // MINUTE * 100.0)
        ] * spans
        assert all((point.p50_ms, point.p95_ms, point.ttft_p50_ms) == (100.0, 100.0, 10.0) for point in points)
        assert SKETCHES / 2 <= sum(point.sketched for point in points) <= 2 * SKETCHES
