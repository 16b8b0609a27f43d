"""Golden sets that change: what two versions do not share, and items from production traffic."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session, col, select

from driftline.acts.golden import COVERED, Item, canonical, check_name, find_version, import_items, role_of
from driftline.errors import BadInput, NotFound
from driftline.moment import iso
from driftline.store.generations import began_since, with_ids
from driftline.store.hashing import content_hash
from driftline.store.tables import Feedback, Generation, GoldenItem, GoldenVersion

Redact = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Difference:
    """Questions that only the older version holds, only the newer one, and both with something else changed."""

    removed: list[str]
    added: list[str]
    changed: list[str]


def difference(session: Session, old: GoldenVersion, new: GoldenVersion) -> Difference:
    """What two versions do not share, by the last message of each item, in the order of the items."""
    sides = []
    for version in (old, new):
        of_version = select(GoldenItem.content_hash, GoldenItem.messages).where(GoldenItem.version_id == version.id)
        items = session.exec(of_version.order_by(col(GoldenItem.position)))
        sides.append({content_hash(messages): (digest, messages[-1]["content"]) for digest, messages in items})
    before, after = sides
    return Difference(
        [text for key, (_, text) in before.items() if key not in after],
        [text for key, (_, text) in after.items() if key not in before],
        [text for key, (digest, text) in after.items() if key in before and before[key][0] != digest],
    )


def items_of(session: Session, version: GoldenVersion) -> list[Item]:
    """All items of a version in canonical form, in order."""
    of_version = select(GoldenItem).where(GoldenItem.version_id == version.id)
    rows = session.exec(of_version.order_by(col(GoldenItem.position)))
    return [{name: getattr(row, name) for name in COVERED} for row in rows]


def exported(items: Iterable[Item]) -> Iterator[Item]:
    """Items as `golden import` reads them back to the same hash: without what is empty or as by default."""
    for item in items:
        usual: Item = {"rubric": None, "tags": {}, "weight": 1.0, "cluster": None, "split": "test", "expected": []}
        rest = {name: item[name] for name in usual if item[name] != usual[name]}
        yield {"input": item["messages"]} | rest


def add_items(
    session: Session, project_id: int, name: str, items: Sequence[Item], actor: str, source: str
) -> tuple[GoldenVersion, int]:
    """A new version of the set with these items after those it has; and how many of them it had already.

    A question that the set asks already is left out, whatever was expected of it: the set's own word stands.

    Raises:
        BadInput: No item is left to add.
    """
    try:
        held = items_of(session, find_version(session, project_id, name))
    except NotFound:
        check_name(name)
        held = []
    known = {content_hash(item["messages"]) for item in held}
    fresh = {content_hash(item["messages"]): item for item in items}
    added = [item for key, item in fresh.items() if key not in known]
    if not added:
        raise BadInput(f"{name} asks all {len(items)} of these already; there is nothing to add.")
    version, _ = import_items(session, project_id, name, [*held, *added], actor, source=source)
    return version, len(items) - len(added)


def from_traffic(
    session: Session,
    project_id: int,
    redact: Redact,
    *,
    ids: Sequence[str] = (),
    route: str | None = None,
    since: int | None = None,
    limit: int = 50,
    expect_answers: bool = False,
) -> list[Item]:
    """Production calls as golden items, redacted: those with these ids, or a uniform sample.

    What people said is expected (feedback named "expected") becomes the reference answer. Calls of one session are one
    cluster, since they fail together.

    Args:
        redact: Replaces personal data and secrets; runs over everything that is kept, also where the project stores
            full text.
        ids: The generations to take; with them nothing is sampled.
        route: Where a sample is taken from.
        since: Only calls that began at or after this moment, microseconds.
        limit: How many to sample at most.
        expect_answers: Takes the answer given for the reference where nobody said what is expected; only for answers
            that are known to be right.

    Raises:
        NotFound: A generation that is not there.
        BadInput: No call with a stored prompt is found.
    """
    wanted = list(ids) or sample_of(session, project_id, route=route, since=since, limit=limit)
    query = select(Generation).where(with_ids(session.connection(), project_id, wanted))
    rows = session.exec(query.order_by(col(Generation.sample_key))).all()
    missing = set(ids) - {row.id for row in rows}
    if missing:
        raise NotFound("generation", sorted(missing)[0])
    said = _expected(session, project_id, [row.id for row in rows])
    items = [
        _item(row, said.get(row.id, row.output if expect_answers else None), redact)
        for row in rows
        if row.input not in (None, "", "[]")
    ]
    if not items:
        asked = f" of route {route}" if route else ""
        asked += f" since {iso(since)}" if since is not None else ""
        raise BadInput(
            f"No call{asked} with a stored prompt is found. Ask for another route or more days, or let the project "
            "store text: `driftline project set --store-text redacted`."
        )
    return items


def sample_of(
    session: Session, project_id: int, *, route: str | None = None, since: int | None = None, limit: int = 50
) -> list[str]:
    """The ids of a uniform sample of the calls that went well and whose prompts are stored; the same every time."""
    query = select(Generation.id).where(Generation.project_id == project_id)
    query = query.where(col(Generation.input).is_not(None), Generation.status == "ok")
    query = query.where(Generation.route == route) if route else query
    query = query.where(began_since(session.connection(), since)) if since is not None else query
    return list(session.exec(query.order_by(col(Generation.sample_key)).limit(limit)))


def question_of(item: Item) -> str:
    """What makes two items one question: their messages, hashed."""
    return content_hash(item["messages"])


def questions_of(session: Session, version: GoldenVersion) -> set[str]:
    """The questions of a version, as `question_of` names them."""
    return {question_of(item) for item in items_of(session, version)}


def proposed(
    session: Session, project_id: int, redact: Redact, groups: Sequence[dict[str, Any]], per_group: int
) -> list[Item]:
    """Drafts from the most typical calls of uncovered groups, tagged with their group; calls erased since are left out.

    A draft's weight is its group's share of traffic, relative to the largest group's.
    """
    drafts: list[Item] = []
    largest = max((float(group["share"]) for group in groups), default=1.0)
    for number, group in enumerate(groups, 1):
        chosen = list(group["generations"])[:per_group]
        held = select(Generation.id).where(with_ids(session.connection(), project_id, chosen))
        present = set(session.exec(held))
        ids = [key for key in chosen if key in present]
        for item in from_traffic(session, project_id, redact, ids=ids) if ids else []:
            weight = round(float(group["share"]) / largest, 4) or 0.0001
            drafts.append(item | {"tags": item["tags"] | {"uncovered": f"group {number}"}, "weight": weight})
    if not drafts:
        raise BadInput("Nothing is proposed: no group of traffic lies outside the golden set.")
    return drafts


def _item(row: Generation, expected: str | None, redact: Redact) -> Item:
    try:
        messages = json.loads(row.input or "")
    except json.JSONDecodeError:
        messages = row.input
    if isinstance(messages, list):
        messages = [
            {"role": role_of(message.get("role", "user")), "content": redact(str(message.get("content", "")))}
            for message in messages
            if isinstance(message, dict)
        ]
    else:
        messages = redact(str(messages))
    cluster = f"session {content_hash(row.session_id)[:16]}" if row.session_id else None
    answer = redact(expected) if expected and expected.strip() else None
    return canonical({"input": messages, "expected": answer, "cluster": cluster, "tags": {"origin": "traffic"}})


def _expected(session: Session, project_id: int, ids: Sequence[str]) -> dict[str, str]:
    told = select(Feedback.generation_id, Feedback.label).where(
        Feedback.project_id == project_id, Feedback.name == "expected", col(Feedback.generation_id).in_(ids)
    )
    return {generation: label for generation, label in session.exec(told.order_by(col(Feedback.seq))) if label}
