"""The metrics that apps export, over the API."""

from typing import Any

from starlette.testclient import TestClient

from driftline.moment import MINUTE, now_us
from driftline.store.engine import writing
from driftline.store.tables import MetricPoint


def add(project_id: int, name: str, *points: tuple[int, int, float]) -> int:
    start = now_us() - 30 * MINUTE
    with writing() as session:
        for minutes, n, total in points:
            at = start + minutes * MINUTE
            session.add(
                MetricPoint(
                    project_id=project_id, name=name, unit="s", stream="x", labels={"gen_ai.request.model": "gpt"},
                    is_cumulative=True, start_at=start, at=at, n=n, total=total,
                )
            )  # fmt: skip
    return start


def test_a_metric_is_shown_by_what_was_added_in_each_span(seeded: Any, client: TestClient) -> None:
    add(seeded.project_id, "gen_ai.client.operation.duration", (1, 2, 1.0), (2, 2, 1.0), (3, 6, 9.0))
    assert client.get("/api/app-metrics").json() == [{"name": "gen_ai.client.operation.duration", "unit": "s"}]
    told = client.get("/api/app-metrics/gen_ai.client.operation.duration").json()
    assert [(p["n"], p["total"], p["mean"]) for p in told["points"]] == [(2, 1.0, 0.5), (0, 0.0, None), (4, 8.0, 2.0)]
    assert told["points"][0]["labels"] == {"gen_ai.request.model": "gpt"}
    assert told["unit"] == "s"
    asked = {"since": "2020-01-01", "step_s": 60}
    assert client.get("/api/app-metrics/x", params=asked).status_code == 422


def test_another_projects_metrics_are_not_shown(seeded: Any, client: TestClient, foreign: dict[str, str]) -> None:
    add(seeded.project_id, "gen_ai.a", (1, 1, 1.0))
    assert client.get("/api/app-metrics", headers=foreign).json() == []
    assert client.get("/api/app-metrics/gen_ai.a", headers=foreign).json()["points"] == []


def test_the_page_draws_the_metrics_and_changes_what_is_kept(seeded: Any, client: TestClient) -> None:
    from sqlmodel import select

    from driftline.store.engine import reading
    from driftline.store.tables import Job, Project

    click = {"origin": "http://127.0.0.1:8400", "sec-fetch-site": "same-origin"}
    add(seeded.project_id, "gen_ai.<b>x</b>", (1, 2, 1.0), (2, 4, 3.0))
    shown = client.get("/intake?window=1h").text
    assert "mean per span" in shown
    assert "<b>x</b>" not in shown
    answer = client.post("/intake/keeping", data={"store_text": "hashed", "keep_days": "30"}, headers=click)
    assert answer.status_code == 303, answer.text
    assert "for <b>30 days</b>" in client.get("/intake").text
    client.post("/intake/keeping", data={"store_text": "hashed", "keep_days": ""}, headers=click)
    assert client.post("/intake/erase", data={"user_id": "ana"}, headers=click).status_code == 303
    with reading() as session:
        project = session.get_one(Project, seeded.project_id)
        assert (project.store_text, project.keep_days) == ("hashed", None)
        assert len(session.exec(select(Job).where(Job.kind == "user.erase")).all()) == 1
