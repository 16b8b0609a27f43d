"""Who looks at the pages: on loopback without keys anybody, else whoever signed in with a key or a password."""

import hashlib
import threading
import time
from collections import OrderedDict, deque
from functools import lru_cache
from typing import Any

from itsdangerous import BadSignature, URLSafeTimedSerializer
from sqlmodel import Session, select
from starlette.requests import Request
from starlette.responses import Response

from driftline.access import identify
from driftline.acts.people import ROLES
from driftline.errors import DriftlineError, Forbidden, Unauthenticated
from driftline.settings import settings
from driftline.store.engine import reading
from driftline.store.projects import DEFAULT, Caller, find_project, hash_key
from driftline.store.secrets import installation_key
from driftline.store.tables import ApiKey, User

COOKIE = "driftline_session"
STAYS_S = 12 * 3600
TRIES_PER_MINUTE = 20

MOST_WATCHED = 10_000  # addresses and names whose failed tries are remembered

_failures: OrderedDict[tuple[str, str], deque[float]] = OrderedDict()  # ("from", address) or ("as", name) → moments
_counting = threading.Lock()


class TooManyTries(DriftlineError):
    """Somebody guesses; from there, and by this name, nobody may try for a while."""

    status = 429


def viewer(request: Request) -> Caller:
    """Who looks at a page.

    Raises:
        Unauthenticated: They have to sign in first.
        Forbidden: Their key cannot read.
    """
    return _caller(request, "read")


def operator(request: Request) -> Caller:
    """Who acts on a page.

    Raises:
        Unauthenticated: They have to sign in first.
        Forbidden: They may look but not act.
    """
    return _caller(request, "operate")


def administrator(request: Request) -> Caller:
    """Who decides on people and policies.

    Raises:
        Unauthenticated: They have to sign in first.
        Forbidden: They are no admin.
    """
    return _caller(request, "admin")


def _caller(request: Request, scope: str) -> Caller:
    caller = _signed_in(request.cookies.get(COOKIE, ""))
    if caller is None:
        return identify(None, scope)
    if not caller.may(scope):
        raise Forbidden(f"{caller.name} may not do this: it needs the scope {scope}. Sign in with a key that has it.")
    return caller


def sign_in(*, key: str = "", name: str = "", password: str = "", address: str = "") -> str:
    """The session cookie's value for whoever holds the key, or knows the password.

    Args:
        key: An API key; otherwise `name` and `password` count.
        name: The person's name.
        password: The person's password.
        address: Where the try comes from.

    Raises:
        Unauthenticated: Unknown key, or wrong name or password.
        TooManyTries: Too many from this address, or by this name, failed within a minute.
    """
    now = time.monotonic()
    watched = [("from", address), *([] if key else [("as", name)])]
    for one in watched:
        failures = _failures.get(one, deque())
        if len(failures) == TRIES_PER_MINUTE and now - failures[0] < 60:
            raise TooManyTries("Too many failed tries to sign in. Wait a minute.")
    with reading() as session:
        who = _by_key(session, key) if key else _by_password(session, name, password)
    if who is None:
        with _counting:
            for one in watched:
                _failures.setdefault(one, deque(maxlen=TRIES_PER_MINUTE)).append(now)
                _failures.move_to_end(one)
            while len(_failures) > MOST_WATCHED:
                _failures.popitem(last=False)
        raise Unauthenticated("This key, or this name and password, is not known here.")
    return str(_signer().dumps(who))


def session_of(user: User) -> str:
    """The session cookie's value for a person whom somebody else has recognized."""
    return str(_signer().dumps({"user": user.id, "since": _digest(user)}))


def stay(response: Response, cookie: str, *, secure: bool) -> None:
    """Gives the session cookie to the browser."""
    response.set_cookie(COOKIE, cookie, max_age=STAYS_S, httponly=True, samesite="lax", secure=secure, path="/")


def leave(response: Response) -> None:
    """Takes the session cookie away."""
    response.delete_cookie(COOKIE, path="/")


def _by_key(session: Session, key: str) -> dict[str, Any] | None:
    row = session.exec(select(ApiKey).where(ApiKey.sha256 == hash_key(key.strip()))).first()
    return {"key": row.id} if row is not None and row.revoked_at is None else None


def _by_password(session: Session, name: str, password: str) -> dict[str, Any] | None:
    from argon2 import PasswordHasher
    from argon2.exceptions import InvalidHashError, VerifyMismatchError

    user = session.exec(select(User).where(User.name == name)).first()
    try:
        PasswordHasher().verify(user.password_hash if user else _nobodys_hash(), password)
    except (VerifyMismatchError, InvalidHashError):
        return None
    return {"user": user.id, "since": _digest(user)} if user else None


@lru_cache(maxsize=1)
def _nobodys_hash() -> str:
    from argon2 import PasswordHasher

    return PasswordHasher().hash(hashlib.sha256(installation_key()).hexdigest())  # as slow as for a name that exists


def _digest(user: User) -> str:
    secret = f"{user.password_hash}{user.subject or ''}"  # a new password ends old sessions
    return hashlib.sha256(secret.encode()).hexdigest()[:16]


def _signed_in(cookie: str) -> Caller | None:
    try:
        who = _signer().loads(cookie, max_age=STAYS_S)
    except BadSignature:
        return None
    with reading() as session:
        if "key" in who:
            row = session.get(ApiKey, who["key"])
            if row is None or row.revoked_at is not None:
                return None
            return Caller(row.project_id, frozenset(row.scopes.split(",")), f"key:{row.name}")
        user = session.get(User, who.get("user"))
        if user is None or _digest(user) != who.get("since"):
            return None
        return Caller(find_project(session, DEFAULT).id, ROLES.get(user.role, frozenset()), f"user:{user.name}")


def _signer() -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(installation_key(), salt="session")


def is_secure(request: Request) -> bool:
    """Whether the browser reached us through TLS, directly or at the public address."""
    return request.url.scheme == "https" or settings().public_url.startswith("https:")
