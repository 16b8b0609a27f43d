"""Who calls the API: the holder of a key, or a person signed in on the pages."""

from typing import Annotated

from fastapi import Depends, Query
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlmodel import Session
from starlette.requests import Request

from dashboard import identity
from driftline.access import identify
from driftline.acts.variants import find_variant
from driftline.errors import BadInput, Forbidden
from driftline.moment import parse
from driftline.store.engine import reading
from driftline.store.projects import Caller
from driftline.store.tables import Project

_SCHEME = HTTPBearer(auto_error=False, description="A key made with `driftline key create`.")
Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(_SCHEME)]  # for OpenAPI; `identify` reads the header
ProjectName = Annotated[str | None, Query(description="Must be the project of your key; for explicitness only.")]
VariantName = Annotated[str | None, Query(description="Name of a variant.")]
Since = Annotated[str | None, Query(description="RFC 3339 moment, inclusive.", examples=["2026-11-22T00:00:00Z"])]
Until = Annotated[str | None, Query(description="RFC 3339 moment, exclusive.")]


def reader(request: Request, _bearer: Bearer, project: ProjectName = None) -> Caller:
    """A caller who may read the project.

    Raises:
        Unauthenticated: No key where one is needed, or one that is not known.
        Forbidden: The key cannot read, or belongs to another project.
    """
    caller = _caller(request, "read")
    if project is not None:
        check_project(caller, project)
    return caller


def check_project(caller: Caller, project: str) -> None:
    """Sees that the caller belongs to the project.

    Raises:
        Forbidden: To another one.
    """
    with reading() as session:
        own = session.get(Project, caller.project_id)
    if own is None or own.name != project:
        raise Forbidden(f"This key does not open the project {project}. Use a key of that project.")


def doer(request: Request, _bearer: Bearer) -> Caller:
    """A caller who may act.

    Raises:
        Unauthenticated: No key where one is needed, or one that is not known.
        Forbidden: The key lacks the scope operate.
    """
    return _caller(request, "operate")


def administrator(request: Request, _bearer: Bearer) -> Caller:
    """A caller who decides on people and policies.

    Raises:
        Unauthenticated: No key where one is needed, or one that is not known.
        Forbidden: The key lacks the scope admin.
    """
    return _caller(request, "admin")


def _caller(request: Request, scope: str) -> Caller:
    authorization = request.headers.get("authorization")
    if authorization is not None:
        return identify(authorization, scope)
    return _SIGNED_IN[scope](request)


_SIGNED_IN = {"read": identity.viewer, "operate": identity.operator, "admin": identity.administrator}


Reader = Annotated[Caller, Depends(reader)]
Doer = Annotated[Caller, Depends(doer)]
Administrator = Annotated[Caller, Depends(administrator)]


def moment_of(text: str | None, name: str) -> int | None:
    """The moment of a query parameter in microseconds.

    Raises:
        BadInput: It is none; names the parameter.
    """
    if text is None:
        return None
    try:
        return parse(text.replace(" ", "+"))  # a plus sign in a query string means a space
    except ValueError:
        raise BadInput(f"`{name}` is {text!r}; it must be a moment such as 2026-11-22T14:00:00Z.") from None


def variant_id_of(session: Session, caller: Caller, name: str | None) -> int | None:
    """The key of the variant a query names.

    Raises:
        NotFound: No variant of that name in the project; lists those there are.
    """
    return None if name is None else find_variant(session, caller.project_id, name).id
