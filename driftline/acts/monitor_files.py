"""Monitors as a YAML file: written from what there is, read, and made so."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from sqlmodel import Session, select

from driftline.acts.monitors import add, change, defaults, pause, resume
from driftline.errors import BadInput, Conflict
from driftline.store.tables import Monitor

FIXED = ("name", "signal", "route", "source", "weight", "paused")


def described(session: Session, project_id: int) -> list[dict[str, Any]]:
    """What each monitor is told, by name; parameters that stand at their default are left out."""
    found = []
    for row in session.exec(select(Monitor).where(Monitor.project_id == project_id).order_by(Monitor.name)):
        usual = defaults(row.signal)
        told = {key: value for key, value in row.params.items() if key in usual and value != usual[key]}
        entry: dict[str, Any] = {"name": row.name, "signal": row.signal, "route": row.route}
        entry |= {"source": row.source} if row.source else {}
        entry |= {"weight": row.weight} if row.weight != 1.0 else {}
        entry |= {"paused": True} if row.status == "paused" else {}
        found.append({**entry, **told})
    return found


def written(entries: Sequence[Mapping[str, Any]]) -> str:
    """The entries as YAML."""
    return yaml.safe_dump({"monitors": [dict(entry) for entry in entries]}, sort_keys=False, allow_unicode=True)


def read(text: str) -> list[dict[str, Any]]:
    """The entries of a YAML file.

    Raises:
        BadInput: It is no YAML, or not a list of monitors with name and signal; says which entry.
    """
    try:
        held = yaml.safe_load(text)
    except yaml.YAMLError as wrong:
        raise BadInput(f"This is no YAML: {' '.join(str(wrong).split())}.") from None
    entries = held.get("monitors") if isinstance(held, dict) else None
    if not isinstance(entries, list):
        raise BadInput("A file of monitors holds one list named `monitors`; `driftline monitor export` writes one.")
    for place, entry in enumerate(entries):
        if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in ("name", "signal")):
            raise BadInput(f"Monitor {place + 1} of the file needs a name and a signal, both texts.")
    names = [entry["name"] for entry in entries]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BadInput(f"The file names the monitor {twice[0]} twice.")
    return entries


def apply(session: Session, project_id: int, entries: Sequence[Mapping[str, Any]], actor: str) -> list[tuple[str, str]]:
    """Adds and changes monitors until they are as the entries say; name → added, changed or unchanged.

    A parameter that an entry leaves out stands at its default. All or nothing happens: what raises leaves the caller's
    transaction to be rolled back.

    Raises:
        BadInput: An entry that makes no sense; names the monitor.
        Conflict: An entry of another signal, route or source than the monitor of that name has.
    """
    known = {row.name: row for row in session.exec(select(Monitor).where(Monitor.project_id == project_id))}
    done = []
    for entry in entries:
        name = entry["name"]
        try:
            done.append((name, _one(session, project_id, known.get(name), entry, actor)))
        except BadInput as refused:
            raise BadInput(f"Monitor {name}: {refused.message}") from None
    return done


def _one(session: Session, project_id: int, row: Monitor | None, entry: Mapping[str, Any], actor: str) -> str:
    told = {key: value for key, value in entry.items() if key not in FIXED}
    route, source = str(entry.get("route", "default")), str(entry.get("source", ""))
    weight, paused = entry.get("weight", 1.0), entry.get("paused", False)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not isinstance(paused, bool):
        raise BadInput(f"weight is a number and paused true or false; got {weight!r} and {paused!r}.")
    if row is None:
        row = add(
            session, project_id, entry["name"], entry["signal"], actor, route=route, source=source,
            weight=float(weight), params=told,
        )  # fmt: skip
        what = "added"
    else:
        if (row.signal, row.route) != (entry["signal"], route) or (source and source != row.source):
            raise Conflict(
                f"The monitor {row.name} watches {row.signal} of {row.route}; give another one another name."
            )
        usual = {key: value for key, value in defaults(row.signal).items() if key != "detector"}
        differs = change(session, row, actor, weight=float(weight), params={**usual, **told})
        what = "changed" if differs else "unchanged"
    if paused != (row.status == "paused"):
        (pause if paused else resume)(session, row, actor)
        what = what if what == "added" else "changed"
    return what
