"""Signing in with a key or a password, and out."""

from typing import Annotated

from fastapi import APIRouter, Form
from sqlmodel import select
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from dashboard import oidc
from dashboard.identity import is_secure, leave, session_of, sign_in, stay
from dashboard.pages.failing import PageRoute
from dashboard.views import environment
from driftline.errors import DriftlineError, NotFound, Unauthenticated
from driftline.store.engine import reading
from driftline.store.tables import User

router = APIRouter(route_class=PageRoute)
Field = Annotated[str, Form()]


@router.get("/login")
def ask(request: Request, to: str = "/") -> Response:
    """The form."""
    return _form(to)


@router.post("/login")
def enter(request: Request, key: Field = "", name: Field = "", password: Field = "", to: Field = "/") -> Response:
    """Signs in and goes on to where one wanted to go."""
    try:
        cookie = sign_in(key=key, name=name, password=password, address=request.client.host if request.client else "")
    except DriftlineError as error:
        return _form(to, error)
    response = RedirectResponse(own_path(to), status_code=303)
    stay(response, cookie, secure=is_secure(request))
    return response


@router.get("/login/oidc")
def go(request: Request, to: str = "/") -> Response:
    """Sends the browser to the identity provider."""
    if not oidc.is_configured():
        raise NotFound("identity provider", "", ())
    try:
        address, cookie = oidc.begin(own_path(to))
    except DriftlineError as error:
        return _form(to, error)
    response = RedirectResponse(address, status_code=303)
    response.set_cookie(
        oidc.COOKIE, cookie, max_age=oidc.AWAY_S, httponly=True, samesite="lax", secure=is_secure(request),
        path="/login",
    )  # fmt: skip
    return response


@router.get(oidc.CALLBACK)
def come_back(
    request: Request, state: str = "", code: str = "", error: str = "", error_description: str = ""
) -> Response:
    """Takes in whoever comes back from the identity provider."""
    try:
        if error:
            raise Unauthenticated(f"The identity provider says: {(error_description or error)[:200]}.")
        person, to = oidc.finish(request.cookies.get(oidc.COOKIE, ""), state, code)
    except DriftlineError as problem:
        return _form("/", problem)
    response = RedirectResponse(own_path(to), status_code=303)
    stay(response, session_of(person), secure=is_secure(request))
    response.delete_cookie(oidc.COOKIE, path="/login")
    return response


@router.post("/logout")
def exit_(request: Request) -> Response:
    """Signs out."""
    response = RedirectResponse("/login", status_code=303)
    leave(response)
    return response


def _form(to: str, error: DriftlineError | None = None) -> HTMLResponse:
    with reading() as session:
        passwords = session.exec(select(User.id).where(User.password_hash != "").limit(1)).first() is not None
    html = (
        environment()
        .get_template("login.html")
        .render(to=own_path(to), error=error, passwords=passwords, provider=oidc.is_configured())
    )
    return HTMLResponse(html, status_code=error.status if error else 200, headers={"Cache-Control": "no-store"})


def own_path(to: str) -> str:
    """A path of this site, whatever was asked for.

    >>> own_path("/alerts"), own_path("//evil.example"), own_path("https://evil.example")
    ('/alerts', '/', '/')
    """
    return to if to.startswith("/") and not to.startswith(("//", "/\\")) and "\n" not in to else "/"
