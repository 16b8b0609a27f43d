"""What a key may send and for how long it works: limits, exchange, revocation."""

import json
import time
from types import SimpleNamespace

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from sqlmodel import select

from collector.limits import Limits, TooMany
from driftline import access, moment
from driftline.errors import BadInput, Conflict
from driftline.moment import HOUR
from driftline.store.engine import reading, writing
from driftline.store.projects import create_key, ensure_project, revoke_key, rotate_key
from driftline.store.tables import Generation, Process


def key(name: str = "app", scopes: tuple[str, ...] = ("ingest",), limit: int | None = None) -> str:
    with writing() as session:
        return create_key(session, ensure_project(session), name, list(scopes), "test", limit)


def post(client, text: str, *ids: str):
    records = [{"id": name, "started_at": time.time(), "output": "x"} for name in ids]
    return client.post("/v1/records", json={"records": records}, headers={"authorization": f"Bearer {text}"})


def stored() -> int:
    with reading() as session:
        return len(session.exec(select(Generation.id)).all())


@pytest.fixture
def clock(monkeypatch):
    """Moves what collector and access take for the time since the machine started."""
    standing = SimpleNamespace(now=1000.0)
    fake = SimpleNamespace(monotonic=lambda: standing.now)
    for module in ("collector.limits", "collector.admission", "driftline.access"):
        monkeypatch.setattr(f"{module}.time", fake)
    access.forget_callers()
    yield standing
    access.forget_callers()


def test_a_key_beyond_its_limit_is_429_in_words_and_goes_on_later(sqlite_client, clock):
    mine, other = key(limit=60), key("other")
    assert post(sqlite_client, mine, *(f"a{n}" for n in range(12))).status_code == 200  # ten at once, then into debt
    refused = post(sqlite_client, mine, "b")
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "3"
    assert refused.headers["content-type"] == "application/problem+json"
    assert "60 calls a minute" in refused.json()["detail"]
    assert post(sqlite_client, other, "c").status_code == 200
    clock.now += 3
    assert post(sqlite_client, mine, "b").status_code == 200
    assert stored() == 14


def test_otlp_says_429_with_a_status_body(sqlite_client, clock):
    mine = key(limit=6)
    post(sqlite_client, mine, "a", "b")
    headers = {"authorization": f"Bearer {mine}", "content-type": "application/json"}
    refused = sqlite_client.post("/v1/traces", content=b"{}", headers=headers)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "3")
    assert refused.json()["code"] == 8
    assert "6 calls a minute" in refused.json()["message"]


def test_refused_records_count_too(sqlite_client, clock):
    mine = key(limit=6)
    told = sqlite_client.post(
        "/v1/records", content=json.dumps({"records": [{"id": "x"}] * 5}), headers={"authorization": f"Bearer {mine}"}
    )
    assert len(told.json()["rejected"]) == 5
    assert post(sqlite_client, mine, "a").status_code == 429


def test_a_limit_lets_through_what_it_says_over_time(clock):
    limits, taken, waits = Limits(), 0, set()
    for _ in range(6000):  # ten minutes
        clock.now += 0.1
        try:
            limits.check(1, "app", 120)
        except TooMany as refusal:
            waits.add(refusal.retry_after_s)
            continue
        limits.charge(1, "app", 120, 7)
        taken += 7
    assert 1200 <= taken <= 1200 + 20 + 7
    assert waits <= {1, 2, 3}


@pytest.mark.parametrize(
    ("others", "lets_in"),
    [([], 20), ([("collect", 0), ("collect-2", 4)], 10), ([("collect", 0), ("collect-2", 60), ("show", 0)], 20)],
)
def test_collectors_that_live_share_a_key_s_limit(sqlite_client, clock, others, lets_in):
    mine = key(limit=120)  # of which a sixth may come at once
    with writing() as session:
        for name, silent_s in others:
            seen = moment.now_us() - silent_s * moment.SECOND
            session.add(Process(host="here", name=name, pid=1, started_at=seen, seen_at=seen))
    answers = [post(sqlite_client, mine, *(f"{n}-{k}" for k in range(5))).status_code for n in range(6)]
    assert answers == [200] * (lets_in // 5) + [429] * (6 - lets_in // 5)


def test_a_limit_below_one_is_refused(sqlite_store):
    with pytest.raises(BadInput, match="at least one call"):
        key(limit=0)


def test_a_key_is_exchanged_without_a_gap(sqlite_client, clock, monkeypatch):
    old = key(limit=500)
    with writing() as session:
        new = rotate_key(session, ensure_project(session), "app", HOUR, "test")
    assert [post(sqlite_client, text, name).status_code for text, name in ((old, "a"), (new, "b"))] == [200, 200]
    with writing() as session, pytest.raises(Conflict, match="exchanged before"):
        rotate_key(session, ensure_project(session), "app", HOUR, "test")
    later = moment.time.time_ns() + 3601 * 10**9
    monkeypatch.setattr(moment, "time", SimpleNamespace(time_ns=lambda: later))
    clock.now += 10  # answers about keys are believed for seconds
    assert [post(sqlite_client, text, name).status_code for text, name in ((old, "c"), (new, "d"))] == [401, 200]
    assert stored() == 3


def test_a_revoked_key_stops_within_seconds_also_the_one_it_is_exchanged_for(sqlite_client, clock):
    old = key()
    with writing() as session:
        new = rotate_key(session, ensure_project(session), "app", HOUR, "test")
    assert [post(sqlite_client, text, "a").status_code for text in (old, new)] == [200, 200]
    with writing() as session:
        revoke_key(session, ensure_project(session), "app", "test")
    clock.now += 7.1
    assert [post(sqlite_client, text, "b").status_code for text in (old, new)] == [401, 401]


def test_a_key_that_may_only_read_writes_nothing(sqlite_client, clock):
    reader = key("reader", ("read",))
    assert post(sqlite_client, reader, "a").status_code == 403
    body = ExportTraceServiceRequest().SerializeToString()
    headers = {"authorization": f"Bearer {reader}", "content-type": "application/x-protobuf"}
    assert sqlite_client.post("/v1/traces", content=body, headers=headers).status_code == 403
    assert stored() == 0
