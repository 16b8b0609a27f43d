"""People on the page for admins, and at the command line: added, given roles, removed, never the last admin."""

from typing import Any

import pytest
from sqlmodel import select
from starlette.testclient import TestClient

from dashboard import identity
from driftline.access import forget_callers
from driftline.acts.people import find_person, remove_person, set_person, set_role, welcome
from driftline.errors import BadInput, Conflict, NotFound
from driftline.store.engine import writing
from driftline.store.projects import create_key, find_project
from driftline.store.tables import AuditEntry, User

CLICK = {"origin": "http://127.0.0.1:8400", "sec-fetch-site": "same-origin"}
PASSWORD = "correct horse"


@pytest.fixture
def admin(seeded: Any, client: TestClient) -> TestClient:
    """A browser in which the admin `root` is signed in."""
    identity._failures.clear()
    with writing() as session:
        create_key(session, find_project(session, "default"), "first", ["admin"], "test")
        set_person(session, "root", PASSWORD, "admin", "test")
    forget_callers()
    assert client.post("/login", data={"name": "root", "password": PASSWORD}, headers=CLICK).status_code == 303
    return client


def role_of(name: str) -> str | None:
    with writing() as session:
        return session.exec(select(User.role).where(User.name == name)).first()


def test_an_admin_adds_people_and_changes_what_they_may_do(admin: TestClient) -> None:
    admin.post("/people", data={"name": "ann", "password": PASSWORD, "role": "viewer"}, headers=CLICK)
    admin.post("/people/role", data={"name": "ann", "role": "operator"}, headers=CLICK)
    assert role_of("ann") == "operator"
    page = admin.get("/people").text
    assert "ann" in page
    assert 'href="/people"' in page
    admin.post("/people/remove", data={"name": "ann"}, headers=CLICK)
    assert role_of("ann") is None
    with writing() as session:
        entries = session.exec(select(AuditEntry).where(AuditEntry.actor == "user:root")).all()
    assert [one.action for one in entries] == ["user.set", "user.role_set", "user.removed"]


@pytest.mark.parametrize("role", ["viewer", "operator"])
def test_others_neither_see_people_nor_change_policies(role: str, admin: TestClient) -> None:
    with writing() as session:
        set_person(session, "bob", PASSWORD, role, "test")
    admin.post("/logout", headers=CLICK)
    admin.post("/login", data={"name": "bob", "password": PASSWORD}, headers=CLICK)
    assert admin.get("/people").status_code == 403
    assert 'href="/people"' not in admin.get("/").text
    assert admin.post("/people", data={"name": "eve", "password": PASSWORD}, headers=CLICK).status_code == 403
    assert admin.post("/policy", data={"approval": "auto"}, headers=CLICK).status_code == 403
    wish = {"route": "default", "approval": "auto"}
    assert admin.post("/routes/policy", data=wish, headers=CLICK).status_code == 403
    assert role_of("eve") is None


def test_a_forged_click_changes_nothing(admin: TestClient) -> None:
    forged = {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}
    assert admin.post("/people/remove", data={"name": "root"}, headers=forged).status_code == 403
    assert role_of("root") == "admin"


def test_an_admin_sets_a_policy_on_the_page(admin: TestClient) -> None:
    wish = {"route": "default", "approval": "auto", "canary_percent": "10", "canary_items": "50"}
    assert admin.post("/routes/policy", data=wish, headers=CLICK).status_code == 303
    page = admin.get("/routes").text
    assert "until 50 answers did no harm" in page
    assert "by the policy" in page
    assert admin.post("/routes/policy", data=wish | {"canary_percent": "lots"}, headers=CLICK).status_code == 422


def test_the_last_admin_stays(admin: TestClient) -> None:
    with writing() as session:
        root = find_person(session, "root")
        for act in (lambda: set_role(session, root, "viewer", "x"), lambda: remove_person(session, root, "x"),
                    lambda: set_person(session, "root", PASSWORD, "viewer", "x")):  # fmt: skip
            with pytest.raises(Conflict, match="last admin"):
                act()
        set_person(session, "second", PASSWORD, "admin", "x")
        set_role(session, root, "viewer", "x")
    assert role_of("root") == "viewer"


def test_what_makes_no_person_is_refused(admin: TestClient) -> None:
    with writing() as session:
        with pytest.raises(BadInput, match="viewer, operator, admin; got 'boss'"):
            set_person(session, "ann", PASSWORD, "boss", "x")
        with pytest.raises(BadInput, match="at least 10"):
            set_person(session, "ann", "short", "viewer", "x")
        with pytest.raises(NotFound, match="Known: root"):
            find_person(session, "nobody")
        welcome(session, "issuer|1", "carl", None, "viewer")
        with pytest.raises(Conflict, match="at the identity provider"):
            set_person(session, "carl", PASSWORD, "admin", "x")
