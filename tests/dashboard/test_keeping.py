"""What a project keeps, over the API."""

from typing import Any

from sqlmodel import select
from starlette.testclient import TestClient

from driftline.store.engine import reading
from driftline.store.tables import AuditEntry, Job, Project


def test_what_the_project_keeps_is_read_and_changed(seeded: Any, client: TestClient) -> None:
    assert client.get("/api/project").json()["keep_days"] is None
    changed = client.patch("/api/project", json={"keep_days": 30, "store_text": "hashed"})
    assert changed.status_code == 200, changed.text
    told = client.get("/api/project").json()
    assert (told["keep_days"], told["store_text"]) == (30, "hashed")
    assert client.patch("/api/project", json={"keep_days": 0}).json()["keep_days"] is None
    assert client.patch("/api/project", json={"store_text": "some"}).status_code == 422
    assert client.patch("/api/project", json={"keep_days": -1}).status_code == 422


def test_an_erasure_is_a_job_and_audited_without_the_name(seeded: Any, client: TestClient) -> None:
    asked = client.post("/api/erasures", json={"user_id": "ana@example.org"})
    assert asked.status_code == 202, asked.text
    with reading() as session:
        job = session.exec(select(Job).where(Job.kind == "user.erase")).one()
        noted = session.exec(select(AuditEntry).where(AuditEntry.action == "user.erased")).one()
    assert job.id == asked.json()["id"]
    assert "ana" not in str(noted.detail)
    assert client.post("/api/erasures", json={"user_id": ""}).status_code == 422


def test_a_foreign_key_changes_its_own_project_alone(seeded: Any, client: TestClient, foreign: dict[str, str]) -> None:
    with reading() as session:
        before = {row.id: row.store_text for row in session.exec(select(Project))}
    client.patch("/api/project", json={"store_text": "none"}, headers=foreign)
    client.post("/api/erasures", json={"user_id": "ana"}, headers=foreign)
    with reading() as session:
        changed = {row.id for row in session.exec(select(Project)) if row.store_text != before[row.id]}
        erased = {row.project_id for row in session.exec(select(Job).where(Job.kind == "user.erase"))}
    assert seeded.project_id not in changed | erased
