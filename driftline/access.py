"""Who a request comes from, by its key: one answer for the collector, the API and the pages."""

import base64
import binascii
import time
from threading import Lock

from driftline.errors import Forbidden, Unauthenticated
from driftline.settings import settings
from driftline.store.engine import reading, writing
from driftline.store.projects import DEFAULT, SCOPES, Caller, any_key, caller_of_key, ensure_project, hash_key

FRESH_S = 5.0  # how long a looked-up key is believed: a revoked one works no longer than this
_ROOM = 10_000  # keys remembered at most

_known: dict[str, tuple[float, Caller | None]] = {}
_lock = Lock()


def known_caller(authorization: str | None) -> Caller | None:
    """The caller behind a header where that was looked up a moment ago; asks nobody, and checks no scope."""
    key = _key_of(authorization)
    known = _known.get(_name_of(key))
    return known[1] if known is not None and time.monotonic() - known[0] < FRESH_S else None


def identify(authorization: str | None, scope: str | None) -> Caller:
    """The caller behind an `Authorization: Bearer KEY` header, who has the scope (None: any).

    Of `Basic NAME:KEY`, which clients with two keys send, the second is the key. Without a key, a server on loopback
    where no key was ever made takes everybody for the owner of project `default`, Basic clients too: they cannot
    leave theirs out.

    Raises:
        Unauthenticated: No key where one is needed, or one that is unknown or revoked.
        Forbidden: The key lacks the scope.
    """
    key = _key_of(authorization)
    caller = _remember(_name_of(key), key)
    if caller is None and _scheme(authorization) == "basic":
        caller = _remember(_name_of(""), "")
    if caller is None:
        raise Unauthenticated(
            "This key is unknown or was revoked. Make one with `driftline key create`."
            if key
            else "This server asks for a key: send the header `Authorization: Bearer KEY`."
        )
    if scope is not None and not caller.may(scope):
        raise Forbidden(f"{caller.name} lacks the scope {scope}. Make a key that has it with `driftline key create`.")
    return caller


def _key_of(authorization: str | None) -> str:
    shown = (authorization or "").strip()
    if _scheme(shown) != "basic":
        return shown.removeprefix("Bearer ").strip()
    try:
        return base64.b64decode(shown[5:].strip(), validate=True).decode().rpartition(":")[2] or shown
    except (binascii.Error, UnicodeDecodeError):
        return shown


def _scheme(authorization: str | None) -> str:
    return (authorization or "").strip().partition(" ")[0].lower()


def _name_of(key: str) -> str:
    return "open" if not key else "key " + hash_key(key)


def _remember(name: str, key: str) -> Caller | None:
    known = _known.get(name)
    now = time.monotonic()
    if known is not None and now - known[0] < FRESH_S:
        return known[1]
    caller = _look_up(key)
    with _lock:
        if len(_known) >= _ROOM:
            _known.clear()
        _known[name] = (now, caller)
    return caller


def _look_up(key: str) -> Caller | None:
    with reading() as session:
        if key:
            return caller_of_key(session, key)
        if not settings().on_loopback or any_key(session):
            return None
    with writing() as session:
        return Caller(ensure_project(session, DEFAULT).id, frozenset(SCOPES), "local")


def forget_callers() -> None:
    """Drops what was looked up, so that the next request asks the store again."""
    with _lock:
        _known.clear()
