import json
import time

import pytest
from datasketches import kll_floats_sketch
from sqlmodel import select

from collector.folding import PAST, fold_clients, fold_intake
from collector.retention import erase_user, fold_rollups, forget_messages, forget_older
from driftline.moment import DAY, HOUR, MINUTE, now_us
from driftline.store.engine import reading, writing
from driftline.store.projects import ensure_project
from driftline.store.tables import ClientCount, Feedback, Generation, Intake, Rollup, Score, SpanMessage


def rows(table=Generation):
    with reading() as session:
        return session.exec(select(table)).all()


def post(client, *records):
    answer = client.post("/v1/records", content=json.dumps({"records": records}))
    assert answer.json()["accepted"] == len(records)


def record(identity: str, hours_ago: float = 0, **more):
    return {"id": identity, "started_at": time.time() - hours_ago * 3600, "variant": "v", "output": "x"} | more


def project() -> int:
    with writing() as session:
        return ensure_project(session).id


def score_all() -> None:
    with writing() as session:
        for row in session.exec(select(Generation)).all():
            score = {"evaluator": "e", "version": "1", "value": 1.0, "created_at": 0}
            session.add(Score(project_id=row.project_id, generation_seq=row.seq, **score))


def test_old_records_go_with_all_that_hangs_on_them(client):
    post(client, *(record(f"old{n}", hours_ago=48) for n in range(25)), record("new"))
    told = [{"generation_id": name, "name": "stars", "value": 1} for name in ("old3", "new")]
    client.post("/v1/feedback", json={"feedback": told})
    score_all()
    assert forget_older(project(), now_us() - DAY, step=10) == 25
    assert [row.id for row in rows()] == ["new"]
    assert [row.generation_id for row in rows(Feedback)] == ["new"]
    assert len(rows(Score)) == 1
    assert sum(row.n for row in rows(Rollup)) == 26


def test_a_key_is_never_given_twice(client):
    post(client, record("a"), record("b", user_id="ana"))
    newest = max(row.seq for row in rows())
    assert erase_user(project(), "ana") == 1
    post(client, record("c"))
    assert max(row.seq for row in rows()) > newest


def test_a_user_is_erased_under_the_name_sent_and_under_its_stand_in(client):
    post(
        client,
        record("a", user_id="ana@example.org"),
        record("b", user_id="bob"),
        record("c", user_id="ana@example.org"),
    )
    assert all("@" not in row.user_id for row in rows())
    assert erase_user(project(), "ana@example.org", step=1) == 2
    assert [row.id for row in rows()] == ["b"]
    assert erase_user(project(), "bob") == 1
    assert erase_user(project(), "bob") == 0


def test_folding_rollups_keeps_all_sums_and_the_quantiles(client):
    for n in range(40):
        post(client, record(f"r{n}", latency_ms=float(n), ttft_ms=1.0, input_tokens=2, cost_usd=0.001, sample_rate=0.5))
    post(client, record("other", variant="w"))

    def sums():
        names = ("n", "input_tokens", "cost_nano", "latency_n", "latency_sum_ms", "weight_sum")
        return {name: sum(getattr(row, name) for row in rows(Rollup)) for name in names}

    before, rows_before = sums(), len(rows(Rollup))
    fewer = fold_rollups(project(), now_us() + HOUR, groups=1)
    assert sums() == pytest.approx(before)
    after = rows(Rollup)
    assert len(after) == rows_before - fewer <= 4
    keys = [(row.variant_id, row.route, row.minute) for row in after]
    assert len(set(keys)) == len(keys)
    merged = kll_floats_sketch(200)
    for row in after:
        if row.latency_sketch:
            merged.merge(kll_floats_sketch.deserialize(row.latency_sketch))
    assert (merged.n, merged.get_min_value(), merged.get_max_value()) == (40, 0, 39)
    assert fold_rollups(project(), now_us() + HOUR) == 0


def test_folding_what_was_not_stored_keeps_its_sums(client):
    for n in range(12):
        sent = [record("a"), {"id": "b"}] if n % 2 else [record("a")]
        client.post("/v1/records", content=json.dumps({"records": sent}))

    def sums():
        return {
            reason: sum(row.n for row in rows(Intake) if row.reason == reason) for reason in ("duplicates", "rejected")
        }

    assert sums() == {"duplicates": 11, "rejected": 6}
    fewer = fold_intake(project(), now_us() + HOUR, MINUTE, groups=1)
    assert sums() == {"duplicates": 11, "rejected": 6}
    assert len(rows(Intake)) == 17 - fewer <= 4  # two reasons, and a minute may have ended meanwhile
    fold_intake(project(), now_us() + 2 * HOUR, HOUR)
    assert sums() == {"duplicates": 11, "rejected": 6}


def test_clients_not_heard_of_for_long_are_folded_into_one(client):
    def tell(name, n):
        counts = [{"variant": "v", "reason": reason, "count": n} for reason in ("queue_full", "exit")]
        told = {"records": [], "client": {"id": name, "counts": counts}}
        assert client.post("/v1/records", content=json.dumps(told)).status_code == 200

    for n in range(5):
        tell(f"old{n}", 2)
    assert fold_clients(project(), now_us() - DAY) == 0
    assert fold_clients(project(), now_us() + 1, step=3) == 10
    tell("running", 3)
    tell("old-too", 4)
    with writing() as session:
        session.exec(
            select(ClientCount).where(ClientCount.client == "old-too", ClientCount.reason == "exit")
        ).one().updated_at = 0
    assert fold_clients(project(), now_us() - DAY) == 1
    kept = {(row.client, row.reason): row.n for row in rows(ClientCount)}
    assert kept == {
        (PAST, "queue_full"): 10, (PAST, "exit"): 14, ("running", "queue_full"): 3, ("running", "exit"): 3,
        ("old-too", "queue_full"): 4,
    }  # fmt: skip


def test_messages_that_waited_too_long_are_forgotten(client):
    with writing() as session:
        for name, at in (("old", now_us() - 3 * DAY), ("new", now_us())):
            session.add(SpanMessage(project_id=ensure_project(session).id, generation_id=name, digest=name, at=at))
    assert forget_messages(now_us()) == 1
    assert [row.generation_id for row in rows(SpanMessage)] == ["new"]
