"""Golden sets: immutable versions of items in one canonical form."""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import insert
from sqlmodel import Session, col, func, select

from driftline.errors import BadInput, NotFound
from driftline.moment import now_us
from driftline.names import is_typable
from driftline.store.hashing import content_hash
from driftline.store.projects import audit
from driftline.store.tables import GoldenItem, GoldenSet, GoldenVersion

Item = dict[str, Any]
COVERED = ("messages", "expected", "rubric", "tags", "weight", "cluster", "split")  # what an item's hash covers
OTHER_ROLES = {"function": "tool", "model": "assistant", "ai": "assistant", "bot": "assistant", "human": "user"}
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
NUMBERED = re.compile(r".*@\d+", re.DOTALL)
ROLES = ("system", "user", "assistant", "tool", "developer")


def role_of(role: object) -> str:
    """The role that a message of traffic, which may say anything, has in an item."""
    text = str(role).lower()
    return text if text in ROLES else OTHER_ROLES.get(text, "user")


def canonical(raw: Any) -> Item:
    """One item in the form that is stored and hashed.

    Raises:
        BadInput: Says what is wrong with it.
    """
    if not isinstance(raw, dict):
        raise BadInput("an item is a JSON object.")
    unknown = set(raw) - {*COVERED, "input", "id"}
    if unknown:
        raise BadInput(f"unknown field {sorted(map(str, unknown))[0]!r}; known: input, {', '.join(COVERED)}.")
    item = {
        "messages": _messages(raw.get("input", raw.get("messages"))),
        "expected": _texts(raw.get("expected")),
        "rubric": _text_or_none(raw.get("rubric"), "rubric"),
        "tags": _tags(raw.get("tags")),
        "weight": _weight(raw.get("weight", 1.0)),
        "cluster": _text_or_none(raw.get("cluster"), "cluster"),
        "split": _split(raw.get("split", "test")),
    }
    if unstorable := UNSTORABLE.search("".join(_all_texts(item))):
        raise BadInput(f"it holds the character {unstorable[0]!a}, which not every database keeps. Take it out.")
    return item


def _all_texts(item: Item) -> Iterator[str]:
    for message in item["messages"]:
        yield message["content"]
    yield from item["expected"]
    yield from filter(None, (item["rubric"], item["cluster"]))
    yield from item["tags"]
    yield from item["tags"].values()


def _messages(value: Any) -> list[dict[str, str]]:
    if isinstance(value, str) and value.strip():
        return [{"role": "user", "content": value}]
    if not isinstance(value, list) or not value:
        raise BadInput("`input` must be a text or a list of messages, and not empty.")
    messages = []
    for message in value:
        if (
            not isinstance(message, dict)
            or message.get("role") not in ROLES
            or not isinstance(message.get("content"), str)
        ):
            raise BadInput(f"a message is {{role, content}} with a role of {', '.join(ROLES)} and a text as content.")
        messages.append({"role": message["role"], "content": message["content"]})
    return messages


def _texts(value: Any) -> list[str]:
    texts = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) and text.strip() for text in texts):
        raise BadInput(f"`expected` must be a text or a list of texts, none of them empty{_hint(texts)}.")
    return list(dict.fromkeys(texts))


def _hint(value: Any) -> str:
    """What to type where a number or a yes/no stands for a text."""
    bare = isinstance(value, int | float)
    return f'; got {json.dumps(value)}, write it as a text: "{json.dumps(value)}"' if bare else ""


def _text_or_none(value: Any, name: str) -> str | None:
    if value is None or (isinstance(value, str) and value.strip()):
        return value
    raise BadInput(f"`{name}` must be a text that is not empty.")


def _tags(value: Any) -> dict[str, str]:
    tags = value or {}
    if not isinstance(tags, dict) or not all(isinstance(item, str) for pair in tags.items() for item in pair):
        raise BadInput("`tags` must be an object of texts.")
    return dict(sorted(tags.items()))


def _weight(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
        raise BadInput(f"`weight` must be a number above 0; got {value!r}.")
    return float(value)


def _split(value: Any) -> str:
    if value not in ("test", "train"):
        raise BadInput(f'`split` must be "test" or "train"; got {value!r}.')
    return str(value)


def import_items(
    session: Session,
    project_id: int,
    name: str,
    items: Iterable[Item],
    actor: str,
    *,
    source: str,
    licence: str | None = None,
) -> tuple[GoldenVersion, int]:
    """A new version of the golden set `name` and how many duplicate items were left out.

    The same items in the same order as in an earlier version return that version. Items are as `canonical` makes them.

    Raises:
        BadInput: No items, or the same question twice with different expectations.
    """
    kept: dict[str, Item] = {}
    asked: dict[str, str] = {}
    duplicates = 0
    for item in items:
        digest, question = content_hash(item), content_hash(item["messages"])
        if digest in kept:
            duplicates += 1
            continue
        if question in asked:
            text = item["messages"][-1]["content"][:60]
            raise BadInput(
                f"The question {text!r} stands in the file twice with different expectations. Keep one of them."
            )
        kept[digest] = item
        asked[question] = digest
    if not kept:
        raise BadInput("There is no item in it; a golden set needs at least one.")
    golden = ensure_set(session, project_id, name)
    digest = content_hash(list(kept))
    of_set = select(GoldenVersion).where(GoldenVersion.golden_set_id == golden.id)
    known = session.exec(of_set.where(GoldenVersion.content_hash == digest)).first()
    if known is not None:
        return known, duplicates
    number = (
        session.exec(select(func.max(GoldenVersion.number)).where(GoldenVersion.golden_set_id == golden.id)).one() or 0
    )
    version = GoldenVersion(
        golden_set_id=golden.id, number=number + 1, content_hash=digest, n_items=len(kept), source=source,
        licence=licence, created_at=now_us(),
    )  # fmt: skip
    session.add(version)
    session.flush()
    rows = [
        {"version_id": version.id, "position": position, "content_hash": item_hash} | item
        for position, (item_hash, item) in enumerate(kept.items())
    ]
    session.connection().execute(insert(GoldenItem), rows)
    audit(
        session,
        project_id,
        actor,
        "golden.imported",
        f"golden:{golden.id}",
        {"version": version.number, "items": len(kept)},
    )
    return version, duplicates


def check_name(name: str) -> None:
    """Refuses a name that people give and could not type again.

    Raises:
        BadInput: Says what a name is.
    """
    if not is_typable(name) or NUMBERED.fullmatch(name):
        raise BadInput(
            f"A golden set cannot be called {name!r}: a name is one line, does not begin or end with a space, and "
            "does not end like a version (NAME@3)."
        )


def ensure_set(session: Session, project_id: int, name: str) -> GoldenSet:
    """The golden set of that name, made when missing."""
    found = session.exec(select(GoldenSet).where(GoldenSet.project_id == project_id, GoldenSet.name == name)).first()
    if found is None:
        found = GoldenSet(project_id=project_id, name=name, created_at=now_us())
        session.add(found)
        session.flush()
    return found


def find_version(session: Session, project_id: int, name: str, number: int | None = None) -> GoldenVersion:
    """A version of a golden set, the newest where no number is given. `name` may be written NAME@NUMBER.

    Raises:
        NotFound: No such set or version; lists those there are.
    """
    if number is None and "@" in name and name.rsplit("@", 1)[1].isdecimal():
        name, _, text = name.rpartition("@")
        number = int(text)
    sets = {row.name: row for row in session.exec(select(GoldenSet).where(GoldenSet.project_id == project_id))}
    if name not in sets:
        raise NotFound("golden set", name, sets)
    versions = session.exec(
        select(GoldenVersion)
        .where(GoldenVersion.golden_set_id == sets[name].id)
        .order_by(col(GoldenVersion.number).desc())
    ).all()
    for version in versions:
        if number is None or version.number == number:
            return version
    raise NotFound(f"version of golden set {name}", number or "", [version.number for version in versions])
