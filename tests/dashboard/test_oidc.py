"""Signing in at an identity provider: a real one, small, in a process of its own."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from sqlmodel import select
from starlette.testclient import TestClient

from dashboard import oidc
from driftline.access import forget_callers
from driftline.acts.people import find_person, set_role
from driftline.store.engine import writing
from driftline.store.projects import create_key, find_project
from driftline.store.tables import AuditEntry, User

CLICK = {"origin": "http://127.0.0.1:8400", "sec-fetch-site": "same-origin"}


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    script = Path(__file__).parent / "oidc_provider.py"
    process = subprocess.Popen([sys.executable, str(script), "driftline", "s3cret"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    process.kill()
    process.wait()


@pytest.fixture
def provider(
    issuer: str, seeded: Any, monkeypatch: pytest.MonkeyPatch, forget_settings: Callable[[], None]
) -> Iterator[Callable[..., None]]:
    """Configured here, and told what to say of the person."""
    for name, value in {"ISSUER": issuer, "CLIENT_ID": "driftline", "CLIENT_SECRET": "s3cret"}.items():
        monkeypatch.setenv(f"DRIFTLINE_OIDC_{name}", value)
    forget_settings()
    oidc.forget_providers()
    with writing() as session:
        create_key(session, find_project(session, "default"), "first", ["admin"], "test")
    forget_callers()

    def tell(**what: Any) -> None:
        assert httpx.post(f"{issuer}/told", json=what).status_code == 200

    tell(wrong="", claims={"sub": "ann-1", "preferred_username": "ann", "email": "ann@example.org"})
    yield tell
    oidc.forget_providers()


def leave(client: TestClient, to: str = "/") -> str:
    """To the provider and back: the address it sends the browser to."""
    went = client.get(f"/login/oidc?to={to}")
    assert went.status_code == 303
    return str(httpx.get(went.headers["location"]).headers["location"])


def sign_in(client: TestClient, to: str = "/") -> httpx.Response:
    back = urlsplit(leave(client, to))
    return client.get(f"{back.path}?{back.query}")


def test_a_person_comes_in_as_a_viewer_and_goes_where_they_wanted(
    provider: Callable[..., None], client: TestClient
) -> None:
    assert "Sign in with your account" in client.get("/login").text
    came = sign_in(client, "/alerts")
    assert (came.status_code, came.headers["location"]) == (303, "/alerts")
    page = client.get("/")
    assert (page.status_code, "user:ann" in page.text) == (200, True)
    with writing() as session:
        person = session.exec(select(User)).one()
        assert (person.name, person.role, person.email, person.password_hash) == (
            "ann",
            "viewer",
            "ann@example.org",
            "",
        )


def test_what_they_may_do_is_decided_here_and_they_are_named_in_what_they_do(
    provider: Callable[..., None], seeded: Any, client: TestClient
) -> None:
    sign_in(client)
    proposed = f"/reoptimizations/{seeded.ids['proposed']}"
    assert client.post(f"{proposed}/approve", headers=CLICK).status_code == 403
    with writing() as session:
        set_role(session, find_person(session, "ann"), "operator", "test")
    assert client.post(f"{proposed}/approve", headers=CLICK).status_code == 303
    with writing() as session:
        entry = session.exec(select(AuditEntry).where(AuditEntry.action == "reoptimization.approved")).all()[-1]
    assert entry.actor == "user:ann"


def test_coming_again_is_the_same_person_and_another_of_that_name_is_not(
    provider: Callable[..., None], client: TestClient
) -> None:
    sign_in(client)
    sign_in(client)
    provider(claims={"sub": "other-ann", "preferred_username": "ann"})
    sign_in(client)
    with writing() as session:
        assert [row.name for row in session.exec(select(User).order_by(User.name))] == ["ann", "ann (2)"]


def test_whoever_is_removed_is_out_at_once(provider: Callable[..., None], client: TestClient) -> None:
    sign_in(client)
    with writing() as session:
        session.delete(session.exec(select(User)).one())
    assert client.get("/").status_code == 303


@pytest.mark.parametrize("wrong", ["signature", "audience", "issuer", "nonce", "expired", "algorithm"])
def test_a_word_that_does_not_hold_lets_nobody_in(
    wrong: str, provider: Callable[..., None], client: TestClient
) -> None:
    provider(wrong=wrong)
    came = sign_in(client)
    assert came.status_code == 401
    assert "does not hold" in came.text
    assert client.get("/").status_code == 303
    with writing() as session:
        assert session.exec(select(User)).first() is None


def test_a_provider_may_change_its_keys(provider: Callable[..., None], client: TestClient) -> None:
    assert sign_in(client).status_code == 303
    provider(new_key=True)
    assert sign_in(client).status_code == 303


def test_an_answer_to_no_question_of_ours_is_refused(provider: Callable[..., None], client: TestClient) -> None:
    back = urlsplit(leave(client))
    code = parse_qs(back.query)["code"][0]
    assert client.get(f"{back.path}?code={code}&state=forged").status_code == 401
    client.cookies.clear()
    assert client.get(f"{back.path}?{back.query}").status_code == 401


def test_a_code_is_good_once(provider: Callable[..., None], client: TestClient) -> None:
    back = urlsplit(leave(client))
    cookies = dict(client.cookies)
    assert client.get(f"{back.path}?{back.query}").status_code == 303
    client.cookies.update(cookies)
    assert client.get(f"{back.path}?{back.query}", cookies=cookies).status_code == 401


def test_a_person_who_says_no_there_is_told_so_here(provider: Callable[..., None], client: TestClient) -> None:
    came = client.get("/login/oidc/callback?error=access_denied&error_description=You+said+no")
    assert (came.status_code, "You said no" in came.text) == (401, True)


def test_a_provider_that_is_away_is_said_so(
    provider: Callable[..., None],
    client: TestClient,
    monkeypatch: pytest.MonkeyPatch,
    forget_settings: Callable[[], None],
) -> None:
    monkeypatch.setenv("DRIFTLINE_OIDC_ISSUER", "http://127.0.0.1:9")
    forget_settings()
    came = client.get("/login/oidc")
    assert (came.status_code, "does not answer" in came.text) == (502, True)


def test_a_provider_without_tls_is_not_believed(
    provider: Callable[..., None],
    client: TestClient,
    monkeypatch: pytest.MonkeyPatch,
    forget_settings: Callable[[], None],
) -> None:
    monkeypatch.setenv("DRIFTLINE_OIDC_ISSUER", "http://login.example.org")
    forget_settings()
    assert "must begin with https" in client.get("/login/oidc").text


def test_without_a_provider_nobody_is_sent_away(seeded: Any, client: TestClient) -> None:
    assert client.get("/login/oidc").status_code == 404
    assert "Sign in with your account" not in client.get("/login").text
