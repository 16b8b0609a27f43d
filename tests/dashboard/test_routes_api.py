"""GET /api/routes/ROUTE: what apps ask before every call, and who may change the answer."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import driftline_sdk
import pytest
from driftline_sdk.routes import assigned as assigned_by_sdk
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from sqlmodel import select
from starlette.testclient import TestClient

from dashboard.api import route_answers
from driftline.access import forget_callers
from driftline.acts.routes import assigned, start_canary
from driftline.acts.variants import find_route, find_variant
from driftline.store.engine import writing
from driftline.store.projects import create_key, find_project
from driftline.store.tables import AuditEntry, Job, Reoptimization


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    route_answers._answers.clear()
    yield
    route_answers._answers.clear()


def key(*scopes: str) -> dict[str, str]:
    with writing() as session:
        made = create_key(session, find_project(session, "default"), "-".join(scopes), list(scopes), "test")
    forget_callers()
    return {"authorization": f"Bearer {made}"}


def try_canary(seeded: Any, share: float = 0.5) -> None:
    with writing() as session:
        project = find_project(session, "default").id
        route = find_route(session, project, "default")
        start_canary(session, route, find_variant(session, project, "smollm2-bf16"), share, "test", "a try")
    route_answers._answers.clear()


def test_an_answer_that_has_not_changed_is_empty(seeded: Any, client: TestClient) -> None:
    first = client.get("/api/routes/default")
    again = client.get("/api/routes/default", headers={"if-none-match": first.headers["etag"]})
    assert (first.status_code, again.status_code, again.content) == (200, 304, b"")
    client.post("/api/routes/default/promote", json={"variant": "smollm2-bf16"})
    changed = client.get("/api/routes/default", headers={"if-none-match": first.headers["etag"]})
    assert changed.json()["production"] == changed.json()["variant"] == "smollm2-bf16"


def test_a_key_that_only_sends_may_ask(seeded: Any, client: TestClient) -> None:
    app = key("ingest")
    assert client.get("/api/routes/default", headers=app).status_code == 200
    assert client.get("/api/variants", headers=app).status_code == 403
    assert client.get("/api/routes/default").status_code == 401
    assert client.get("/api/routes/default", headers={"authorization": "Bearer dl_guess"}).status_code == 401


def test_sessions_are_shared_out_and_stay_where_they_are(seeded: Any, client: TestClient) -> None:
    try_canary(seeded)
    chosen = [client.get(f"/api/routes/default?key=s-{n}").json()["variant"] for n in range(60)]
    assert chosen == [client.get(f"/api/routes/default?key=s-{n}").json()["variant"] for n in range(60)]
    assert 15 < chosen.count("smollm2-bf16") < 45
    assert client.get("/api/routes/default").json()["variant"] != "smollm2-bf16"


@given(st.text(max_size=30), st.text(max_size=20), st.text(max_size=20), st.floats(0, 1))
def test_the_sdk_shares_out_as_the_server_does(session: str, route: str, canary: str, share: float) -> None:
    assert assigned(route, canary, share, session) == assigned_by_sdk(route, canary, share, session)


def test_the_sdk_asks_the_real_thing(seeded: Any, app: FastAPI, tmp_path: Path) -> None:
    import uvicorn

    try_canary(seeded)
    header = key("ingest")["authorization"]
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()  # whoever asks before the server runs waits for it
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        driftline_sdk.init(
            endpoint=f"http://127.0.0.1:{listener.getsockname()[1]}", api_key=header.removeprefix("Bearer "),
            spool_dir=str(tmp_path / "spool"),
        )  # fmt: skip
        production = driftline_sdk.route("default", wait_s=10.0)
        chosen = {driftline_sdk.route("default", session_id=f"s-{n}") for n in range(40)}
    finally:
        driftline_sdk.shutdown(0.1)
        server.should_exit = True
        thread.join(10)
    assert production is not None
    assert chosen == {production, "smollm2-bf16"}


def test_only_an_admin_changes_a_policy_and_it_is_written_down(seeded: Any, client: TestClient) -> None:
    operator, admin = key("operate", "read"), key("admin")
    wish = {"approval": "auto", "canary_share": 0.1}
    assert client.patch("/api/routes/default/policy", json=wish, headers=operator).status_code == 403
    changed = client.patch("/api/routes/default/policy", json=wish, headers=admin).json()
    assert (changed["approval"], changed["rollout"]["canary_share"]) == ("auto", 0.1)
    assert client.patch("/api/policy", json={"approval": "auto"}, headers=operator).status_code == 403
    assert client.patch("/api/policy", json={"approval": "auto"}, headers=admin).json() == {"approval": "auto"}
    wrong = client.patch("/api/routes/default/policy", json={"canary_share": 0.9}, headers=admin)
    assert (wrong.status_code, "at most half" in wrong.json()["detail"]) == (422, True)
    with writing() as session:
        entry = session.exec(select(AuditEntry).where(AuditEntry.action == "route.policy_set")).one()
    assert (entry.actor, entry.detail["approval"]) == ("key:admin", "auto")


def test_a_repair_is_asked_for_once_and_only_by_who_may(seeded: Any, client: TestClient) -> None:
    with writing() as session:
        for row in session.exec(select(Reoptimization)):
            row.state = "cancelled"
            session.add(row)
    reader, operator = key("read"), key("operate")
    wish = {"route": "default", "cause": "latency", "because": "Too slow for the phone app."}
    assert client.post("/api/reoptimizations", json=wish, headers=reader).status_code == 403
    with writing() as session:
        assert session.exec(select(Job).where(Job.kind == "reoptimization.plan")).first() is None
    asked = client.post("/api/reoptimizations", json=wish, headers=operator)
    assert (asked.status_code, asked.json()["state"]) == (201, "requested")
    again = client.post("/api/reoptimizations", json=wish, headers=operator)
    assert (again.status_code, "Decide on it first" in again.json()["detail"]) == (409, True)
    assert client.post("/api/reoptimizations", json={"cause": "boredom"}, headers=operator).status_code == 422
    assert client.get(f"/api/reoptimizations/{asked.json()['id']}/evidence", headers=reader).status_code == 404


def test_who_lacks_the_scope_is_refused_and_nothing_happens(seeded: Any, client: TestClient) -> None:
    reader = key("read")
    proposed = seeded.ids["proposed"]
    for verb in ("approve", "prove", "release", "reject", "cancel", "undo"):
        assert client.post(f"/api/reoptimizations/{proposed}/{verb}", headers=reader).status_code == 403
    with writing() as session:
        assert session.get_one(Reoptimization, proposed).state == "proposed"
        assert session.exec(select(Job).where(Job.kind == "reoptimization.advance")).first() is None
