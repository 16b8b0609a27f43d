"""The JSON API: pages without gaps or repeats, filters that hold, and nothing of another project."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import BigInteger
from sqlmodel import Session, func, select
from starlette.testclient import TestClient

from dashboard.acts import ACTS
from dashboard.api.lists import LISTS, keyset_page
from dashboard.api.shapes import HIDDEN, is_moment, shape
from driftline.moment import MINUTE, iso, now_us, parse
from driftline.store.engine import reading, writing
from driftline.store.tables import AuditEntry, Generation, Job, Replay, Rollup, Variant

COUNTS = {
    "progress_done",
    "progress_total",
    "cursor",
    "cost_nano",
    "size",
    "calls",
    "reused",
    "tokens",
}  # 64-bit columns that are no moments


@pytest.mark.parametrize("name", LISTS)
def test_a_list_answers_in_its_documented_shape(name: str, seeded: Any, client: TestClient) -> None:
    answer = client.get(f"/api/{name}?limit=3")

    assert answer.status_code == 200, answer.text
    items = answer.json()["items"]
    assert items
    for item in items:
        shape(LISTS[name].table).model_validate(item)
        assert not HIDDEN & set(item)


@pytest.mark.parametrize("name", LISTS)
def test_one_row_can_be_asked_for(name: str, seeded: Any, client: TestClient) -> None:
    first = client.get(f"/api/{name}?limit=1").json()["items"][0]
    key = LISTS[name].order[-1].key

    assert client.get(f"/api/{name}/{first[key]}").json() == first
    assert client.get(f"/api/{name}/999999").status_code == 404


def test_every_64_bit_column_is_shown_as_a_moment_or_known_as_a_count() -> None:
    for listing in LISTS.values():
        for column in listing.table.__table__.columns:
            if isinstance(column.type, BigInteger) and column.key not in HIDDEN and not column.foreign_keys:
                assert column.primary_key or is_moment(column.key) or column.key in COUNTS, column


@hypothesis_settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(limit=st.integers(1, 400), arrivals=st.lists(st.integers(0, 5), max_size=6))
def test_paging_shows_each_row_once_whatever_arrives_meanwhile(limit: int, arrivals: list[int], seeded: Any) -> None:
    listing, seen, cursor = LISTS["generations"], [], None
    with Session(_engine(), expire_on_commit=False) as session:
        wanted = session.exec(
            select(Generation.seq)
            .where(Generation.project_id == seeded.project_id)
            .order_by(Generation.started_at.desc(), Generation.seq.desc())  # type: ignore[attr-defined]
        ).all()
        arriving = iter(arrivals)
        while True:
            rows, cursor = keyset_page(session, listing, seeded.project_id, limit, cursor)
            assert len(rows) <= limit
            seen += [row.seq for row in rows]
            for place in range(next(arriving, 0)):
                _arrive(session, seeded, place)
            if cursor is None:
                break
        session.rollback()
    assert seen == list(wanted)


def _engine() -> Any:
    from driftline.store.engine import engine

    return engine()


def _arrive(session: Session, seeded: Any, place: int) -> None:
    now = now_us() + place
    session.add(
        Generation(
            project_id=seeded.project_id, id=f"late-{now}-{place}", started_at=now, received_at=now,
            variant_id=seeded.ids["variant"], sample_key=0,
        )
    )  # fmt: skip
    session.flush()


def test_cursors_go_from_the_newest_to_the_oldest_over_http(seeded: Any, client: TestClient) -> None:
    seen, cursor = [], ""
    while cursor is not None:
        page = client.get("/api/generations", params={"limit": 150} | ({"cursor": cursor} if cursor else {})).json()
        seen += [row["started_at"] for row in page["items"]]
        cursor = page["next_cursor"]

    assert len(seen) == 399
    assert seen == sorted(seen, reverse=True)


@pytest.mark.parametrize("cursor", ["x", "W10=", "WyJhIl0=", "WzEsMiwzXQ==", "WzFlOTksMV0=", "bnVsbA==", "é"])
def test_a_made_up_cursor_is_refused_in_a_sentence(cursor: str, seeded: Any, client: TestClient) -> None:
    answer = client.get("/api/generations", params={"cursor": cursor})

    assert answer.status_code == 422
    assert "The cursor" in answer.json()["detail"]


LARGE = 10**30  # no database has such a key


@pytest.mark.parametrize(
    "path",
    [
        f"/api/alerts/{LARGE}", f"/api/jobs/-{LARGE}", f"/alerts/{LARGE}", f"/drift-events/{LARGE}/report",
        f"/api/generations?cursor={'W1tb' * 2000}", "/golden-sets/qa@%C2%B2",
        "/api/series?until=9999-12-31T23:59:59-23:59", "/api/generations?since=0001-01-01T00:00:00%2B23:59",
    ],
)  # fmt: skip
def test_what_cannot_be_is_answered_in_a_sentence(path: str, seeded: Any, client: TestClient) -> None:
    assert client.get(path).status_code in (404, 422)


@pytest.mark.parametrize("body", [b"{h\xff", b"\x00\x80", b'{"a": "\xc3"}', b"[" * 100_000])
def test_a_body_that_is_no_json_in_utf8_is_refused_in_a_sentence(body: bytes, seeded: Any, client: TestClient) -> None:
    for path in ("/api/replays", "/api/routes/default/rollback", "/api/silences"):
        answer = client.post(path, content=body, headers={"content-type": "application/json"})
        assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
        assert "cannot be" in answer.json()["detail"]


@pytest.mark.parametrize("limit", [0, -1, 1001])
def test_limits_have_limits(limit: int, seeded: Any, client: TestClient) -> None:
    answer = client.get(f"/api/variants?limit={limit}")

    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert answer.json()["detail"].startswith("`limit` cannot be used: input should be")


def test_filters_keep_to_a_variant_and_a_span(seeded: Any, client: TestClient) -> None:
    rows = client.get("/api/generations?variant=smollm2-int8&limit=1000").json()["items"]
    assert {row["variant"] for row in rows} == {"smollm2-int8"}
    middle = sorted(row["started_at"] for row in rows)[len(rows) // 2]

    since = client.get("/api/generations", params={"variant": "smollm2-int8", "limit": 1000, "since": middle})
    until = client.get("/api/generations", params={"variant": "smollm2-int8", "limit": 1000, "until": middle})

    assert all(row["started_at"] >= middle for row in since.json()["items"])
    assert len(since.json()["items"]) + len(until.json()["items"]) == len(rows)
    assert client.get("/api/comparisons?variant=smollm2-bf16").json()["items"]
    assert client.get("/api/variants?variant=nobody").status_code == 404
    assert "since" in client.get("/api/variants?since=yesterday").json()["detail"]


def test_counts_are_exact(seeded: Any, client: TestClient) -> None:
    with reading() as session:
        stored = session.exec(select(func.sum(Rollup.n)).where(Rollup.project_id == seeded.project_id)).one()

    counts = client.get("/api/counts?project=default").json()
    assert sum(one["generations"] for one in counts.pop("variants")) == stored
    assert counts == {
        "generations": stored, "duplicates": 12, "rejected": 3, "dropped_by_clients": 9, "sampled_out": 0,
        "captured_share": stored / (stored + 12),
    }  # fmt: skip


def test_series_add_up_to_the_rollups(seeded: Any, client: TestClient) -> None:
    since = iso(now_us() - 200 * MINUTE)
    for step_s in (60, 600, 3600):
        series = client.get("/api/series", params={"since": since, "step_s": step_s}).json()
        total = client.get("/api/counts").json()["generations"]
        assert sum(point["n"] for point in series["points"]) == total
        assert all(parse(point["at"]) % (step_s * 1_000_000) == 0 for point in series["points"])
        assert all(point["latency_p50_ms"] <= point["latency_p95_ms"] for point in series["points"])
        assert all(point["sketched"] == point["n"] for point in series["points"])


def test_series_too_fine_are_refused(seeded: Any, client: TestClient) -> None:
    answer = client.get("/api/series?since=2020-01-01T00:00:00Z&step_s=60")

    assert answer.status_code == 422
    assert "step_s" in answer.json()["detail"]


def test_a_route_says_where_it_points(seeded: Any, client: TestClient) -> None:
    now = client.get("/api/routes/default").json()

    assert (now["production"], now["baseline"], now["version"]) == ("smollm2-int8", "smollm2-fp32", 3)
    assert client.get("/api/routes/none").status_code == 404


def test_promoting_and_rolling_back_move_the_route(seeded: Any, client: TestClient) -> None:
    promoted = client.post("/api/routes/default/promote", json={"variant": "smollm2-bf16", "reason": "equal, smaller"})
    back = client.post("/api/routes/default/rollback", json={"reason": "second thoughts"})

    assert promoted.json()["production"] == "smollm2-bf16"
    assert back.json()["production"] == "smollm2-int8"


def test_asking_for_a_replay_queues_work(seeded: Any, client: TestClient) -> None:
    answer = client.post(
        "/api/replays", json={"variant": "smollm2-int8", "golden": "capitals", "baseline": "smollm2-fp32"}
    )

    assert answer.status_code == 201, answer.text
    assert answer.json()["golden_version"] == "capitals@1"
    with reading() as session:
        replay = session.get_one(Replay, answer.json()["id"])
        jobs = session.exec(select(Job).where(Job.subject == f"replay:{replay.id}", Job.state == "queued")).all()
    assert replay.requested_by == "local"
    assert {job.kind for job in jobs} >= {"replay.run"}


def test_a_variant_that_only_traffic_knows_cannot_be_replayed(seeded: Any, client: TestClient) -> None:
    with reading() as session:
        name = session.exec(select(Variant.name).where(Variant.name.startswith("org/"))).one()  # type: ignore[attr-defined]

    answer = client.post("/api/replays", json={"variant": name, "golden": "capitals"})

    assert answer.status_code == 422
    assert "driftline variant add" in answer.json()["detail"]


def test_variants_silences_and_schedules_can_be_made(seeded: Any, client: TestClient) -> None:
    made = client.post(
        "/api/variants", json={"name": "new", "spec": {"runner": "echo"}, "parent": "smollm2-fp32", "build": True}
    )
    silence = client.post(
        "/api/silences", json={"matchers": {"route": "default"}, "until": iso(now_us() + MINUTE), "comment": "deploy"}
    )
    schedule = client.post(
        "/api/schedules", json={"name": "hourly", "args": {"variant": "new", "golden": "capitals"}, "every_s": 3600}
    )
    off = client.patch(f"/api/schedules/{schedule.json()['id']}", json={"enabled": False})

    assert (made.status_code, made.json()["build_state"]) == (201, "declared")
    assert (silence.status_code, silence.json()["created_by"]) == (201, "local")
    assert (schedule.status_code, off.json()["enabled"]) == (201, False)


def test_an_act_happens_once_and_names_who_did_it(seeded: Any, client: TestClient) -> None:
    path = f"/api/reoptimizations/{seeded.ids['proposed']}/approve"

    first, second = client.post(path), client.post(path)

    assert (first.status_code, first.json()["state"]) == (200, "approved")
    assert second.status_code == 409
    with reading() as session:
        entries = session.exec(select(AuditEntry).where(AuditEntry.action == "reoptimization.approved")).all()
    mine = [entry for entry in entries if entry.subject.endswith(f":{seeded.ids['proposed']}")]
    assert [entry.actor for entry in mine] == ["local"]


def test_a_foreign_key_sees_its_own_project_alone(seeded: Any, client: TestClient, foreign: dict[str, str]) -> None:
    for name, listing in LISTS.items():
        items = client.get(f"/api/{name}?limit=1000", headers=foreign).json()["items"]
        key = listing.order[-1].key
        assert [item[key] for item in items] == [seeded.foreign_ids[name]], name
        assert client.get(f"/api/{name}/{seeded.foreign_ids[name]}", headers=foreign).status_code == 200
        assert client.get(f"/api/{name}/1", headers=foreign).status_code == 404, name
        assert client.get(f"/api/{name}?project=default", headers=foreign).status_code == 403
    assert client.get("/api/counts", headers=foreign).json()["generations"] == 1
    assert {p["variant"] for p in client.get("/api/series", headers=foreign).json()["points"]} <= {"theirs"}
    assert client.get("/api/series?variant=smollm2-int8", headers=foreign).status_code == 404
    assert client.get("/api/routes/default", headers=foreign).status_code == 404


@pytest.mark.parametrize("act", ACTS, ids=lambda act: f"{act.of}-{act.verb}")
def test_a_foreign_key_cannot_act_on_our_rows(
    act: Any, seeded: Any, client: TestClient, foreign: dict[str, str]
) -> None:
    with reading() as session:
        ours = session.exec(select(act.table).where(act.table.project_id == seeded.project_id)).first()
    before = ours.model_dump()

    answer = client.post(f"/api/{act.of}/{ours.id}/{act.verb}", headers=foreign)

    assert answer.status_code == 404
    with writing() as session:
        assert session.get_one(act.table, ours.id).model_dump() == before


def test_a_foreign_key_cannot_use_our_names(seeded: Any, client: TestClient, foreign: dict[str, str]) -> None:
    for path, body in (
        ("/api/replays", {"variant": "smollm2-int8", "golden": "capitals"}),
        ("/api/replays", {"variant": "theirs", "golden": "capitals"}),
        ("/api/variants", {"name": "x", "spec": {}, "parent": "smollm2-fp32"}),
        ("/api/routes/default/promote", {"variant": "smollm2-bf16"}),
    ):
        assert client.post(path, json=body, headers=foreign).status_code == 404, path
    assert (
        client.patch(f"/api/schedules/{seeded.ids['schedule']}", json={"enabled": False}, headers=foreign).status_code
        == 404
    )


def test_while_a_key_lives_nobody_comes_without_one(seeded: Any, client: TestClient, foreign: dict[str, str]) -> None:
    for name in LISTS:
        assert client.get(f"/api/{name}").status_code == 401
    assert client.get("/api/variants", headers={"authorization": "Bearer dl_guess"}).status_code == 401


def test_openapi_describes_every_operation(client: TestClient, app: Any) -> None:
    document = app.openapi()

    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation.get("summary"), (method, path)
            assert operation.get("description"), (method, path)
    names = [operation["operationId"] for methods in document["paths"].values() for operation in methods.values()]
    assert len(names) == len(set(names))


def test_a_number_or_a_switch_that_is_told_as_text_is_refused(seeded: Any, client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    tried = 0
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            media = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
            name = media.get("$ref", "").rpartition("/")[2]
            for field, about in document["components"]["schemas"].get(name, {}).get("properties", {}).items():
                kinds = {kind.get("type") for kind in (about, *about.get("anyOf", ()))}
                if path.startswith("/api/") and kinds & {"number", "integer", "boolean"} and "string" not in kinds:
                    answer = client.request(method, path.replace("{row_id}", "1"), json={field: "1"})
                    assert answer.status_code == 422, (method, path, field, answer.text)
                    tried += 1
    assert tried > 10
