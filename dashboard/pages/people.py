"""People and what they may do, and their keys' owners' last acts: for admins."""

from typing import Annotated

from fastapi import APIRouter, Form
from sqlmodel import col, select
from starlette.requests import Request
from starlette.responses import Response

from dashboard.pages.failing import PageRoute
from dashboard.views import Administrator, done, page
from driftline.acts.people import ROLES, find_person, people, remove_person, set_person, set_role
from driftline.store.engine import reading, writing
from driftline.store.tables import AuditEntry

router = APIRouter(route_class=PageRoute)
Field = Annotated[str, Form()]


@router.get("/people")
def everybody(request: Request, caller: Administrator) -> Response:
    """Who may sign in, and who changed that."""
    with reading() as session:
        rows = people(session)
        history = session.exec(
            select(AuditEntry)
            .where(col(AuditEntry.subject).startswith("user:"))
            .order_by(col(AuditEntry.id).desc())
            .limit(20)
        ).all()
    return page(request, caller, "people.html", rows=rows, history=history, roles=list(ROLES))


@router.post("/people")
def add(request: Request, caller: Administrator, name: Field, password: Field, role: Field = "viewer") -> Response:
    """Adds a person, or gives one a new password."""
    with writing() as session:
        set_person(session, name, password, role, caller.name)
    return done(request, f"{name} may sign in as {role}.", "/people")


@router.post("/people/role")
def change(request: Request, caller: Administrator, name: Field, role: Field) -> Response:
    """Says what a person may do."""
    with writing() as session:
        set_role(session, find_person(session, name), role, caller.name)
    return done(request, f"{name} is {role} now.", "/people")


@router.post("/people/remove")
def remove(request: Request, caller: Administrator, name: Field) -> Response:
    """Takes a person's access."""
    with writing() as session:
        remove_person(session, find_person(session, name), caller.name)
    return done(request, f"{name} may not sign in any more.", "/people")
