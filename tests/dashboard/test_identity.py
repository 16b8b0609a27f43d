"""Signing in: with a key or a password, for as long as either is good."""

from collections.abc import Iterator
from typing import Any

import pytest
from argon2 import PasswordHasher
from fastapi import FastAPI
from sqlmodel import Session, select
from starlette.testclient import TestClient

from dashboard import identity
from driftline.access import forget_callers
from driftline.moment import now_us
from driftline.store.engine import writing
from driftline.store.projects import create_key, find_project, revoke_key
from driftline.store.tables import AuditEntry, User

QUICK = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)  # how hard a hash is stands in the hash
CLICK = {"origin": "http://127.0.0.1:8400", "sec-fetch-site": "same-origin"}


@pytest.fixture(autouse=True)
def nobody_has_failed() -> Iterator[None]:
    identity._failures.clear()
    yield
    identity._failures.clear()


def make_key(*scopes: str) -> str:
    """A key of the default project; from now on loopback is not open to everybody."""
    with writing() as session:
        key = create_key(session, find_project(session, "default"), "mine", list(scopes), "test")
    forget_callers()
    return key


def make_user(session: Session, name: str, role: str) -> None:
    session.add(User(name=name, password_hash=QUICK.hash("correct horse"), role=role, created_at=now_us()))


def sign_in(client: TestClient, **fields: str) -> int:
    return client.post("/login", data=fields, headers=CLICK).status_code


def browser_at(app: FastAPI, address: str) -> TestClient:
    """A browser somewhere else."""
    return TestClient(app, base_url=CLICK["origin"], client=(address, 5000), follow_redirects=False)


def test_pages_ask_for_a_key_and_lead_back(seeded: Any, client: TestClient) -> None:
    key = make_key("read")

    asked = client.get("/alerts?state=firing")
    assert asked.status_code == 303
    assert asked.headers["location"] == "/login?to=%2Falerts%3Fstate%3Dfiring"
    went = client.post("/login", data={"key": key, "to": "/alerts?state=firing"}, headers=CLICK)
    assert (went.status_code, went.headers["location"]) == (303, "/alerts?state=firing")
    assert "httponly" in went.headers["set-cookie"].lower()
    assert "samesite=lax" in went.headers["set-cookie"].lower()
    assert client.get("/alerts").status_code == 200


def test_live_parts_send_the_whole_page_to_sign_in(seeded: Any, client: TestClient) -> None:
    make_key("read")

    answer = client.get("/parts/jobs", headers={"hx-request": "true"})

    assert (answer.status_code, answer.headers["hx-redirect"]) == (401, "/login")


def test_a_wrong_key_stays_outside(seeded: Any, client: TestClient) -> None:
    make_key("read")

    assert sign_in(client, key="dl_guessed") == 401
    assert client.get("/").status_code == 303


def test_a_revoked_key_ends_its_sessions(seeded: Any, client: TestClient) -> None:
    key = make_key("read", "admin")
    assert sign_in(client, key=key) == 303
    make_other = "other"
    with writing() as session:
        project = find_project(session, "default")
        create_key(session, project, make_other, ["read"], "test")
        revoke_key(session, project, "mine", "test")
    forget_callers()

    assert client.get("/").status_code == 303


def test_a_key_that_may_only_read_sees_no_buttons_and_cannot_act(seeded: Any, client: TestClient) -> None:
    sign_in(client, key=make_key("read"))
    path = f"/reoptimizations/{seeded.ids['proposed']}"

    assert "Approve" not in client.get(path).text
    assert client.post(f"{path}/approve", headers=CLICK).status_code == 403


def test_a_person_signs_in_with_a_password_and_is_named_in_the_audit(seeded: Any, client: TestClient) -> None:
    make_key("read")
    with writing() as session:
        make_user(session, "ada", "operator")

    assert sign_in(client, name="ada", password="correct horse") == 303
    client.post(f"/reoptimizations/{seeded.ids['proposed']}/reject", data={"reason": "not now"}, headers=CLICK)

    with writing() as session:
        entry = session.exec(select(AuditEntry).where(AuditEntry.action == "reoptimization.rejected")).one()
    assert (entry.actor, entry.detail["reason"]) == ("user:ada", "not now")


def test_a_viewer_looks_and_does_not_act(seeded: Any, client: TestClient) -> None:
    make_key("read")
    with writing() as session:
        make_user(session, "bob", "viewer")

    assert sign_in(client, name="bob", password="correct horse") == 303
    assert client.get("/").status_code == 200
    assert client.post(f"/alerts/{seeded.ids['alert']}/acknowledge", headers=CLICK).status_code == 403


@pytest.mark.parametrize(("name", "password"), [("ada", "wrong"), ("nobody", "correct horse"), ("", "")])
def test_a_wrong_name_or_password_tells_nothing(name: str, password: str, seeded: Any, client: TestClient) -> None:
    make_key("read")
    with writing() as session:
        make_user(session, "ada", "admin")

    answer = client.post("/login", data={"name": name, "password": password}, headers=CLICK)

    assert answer.status_code == 401
    assert "This key, or this name and password, is not known here." in answer.text


def test_a_new_password_ends_old_sessions(seeded: Any, client: TestClient) -> None:
    make_key("read")
    with writing() as session:
        make_user(session, "ada", "admin")
    sign_in(client, name="ada", password="correct horse")
    with writing() as session:
        user = session.exec(select(User)).one()
        user.password_hash = QUICK.hash("another")
        session.add(user)

    assert client.get("/").status_code == 303


def test_guessing_is_slowed_down(seeded: Any, client: TestClient) -> None:
    key = make_key("read")
    for _ in range(identity.TRIES_PER_MINUTE):
        assert sign_in(client, key="dl_guess") == 401

    assert sign_in(client, key=key) == 429


def test_who_guesses_at_one_address_shuts_out_nobody_else(seeded: Any, app: FastAPI) -> None:
    key = make_key("read")
    with writing() as session:
        make_user(session, "ada", "admin")
    guesser, other = (browser_at(app, address) for address in ("203.0.113.1", "198.51.100.7"))
    for n in range(identity.TRIES_PER_MINUTE):
        assert sign_in(guesser, name=f"somebody {n}", password="guess") == 401
    assert sign_in(guesser, key=key) == 429
    assert sign_in(other, key=key) == 303
    assert sign_in(other, name="ada", password="correct horse") == 303


def test_who_guesses_one_name_from_many_addresses_is_slowed_down_too(seeded: Any, app: FastAPI) -> None:
    key = make_key("read")
    with writing() as session:
        make_user(session, "ada", "admin")
        make_user(session, "bob", "viewer")
    for n in range(identity.TRIES_PER_MINUTE):
        assert sign_in(browser_at(app, f"203.0.113.{n}"), name="ada", password="guess") == 401
    other = browser_at(app, "198.51.100.7")
    assert sign_in(other, name="ada", password="correct horse") == 429
    assert sign_in(other, name="bob", password="correct horse") == 303
    assert sign_in(other, key=key) == 303


def test_a_forged_cookie_is_nobody(seeded: Any, client: TestClient) -> None:
    make_key("read")
    client.cookies.set(identity.COOKIE, "eyJrZXkiOjF9.forged.signature")

    assert client.get("/").status_code == 303


@pytest.mark.parametrize("to", ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)"])
def test_signing_in_leads_nowhere_else(to: str, seeded: Any, client: TestClient) -> None:
    key = make_key("read")

    went = client.post("/login", data={"key": key, "to": to}, headers=CLICK)

    assert went.headers["location"] == "/"


def test_signing_out_ends_the_session(seeded: Any, client: TestClient) -> None:
    sign_in(client, key=make_key("read"))

    assert client.post("/logout", headers=CLICK).status_code == 303
    assert client.get("/").status_code == 303
