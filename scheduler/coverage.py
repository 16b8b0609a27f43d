"""How far a golden version covers the traffic of some days: embeds both, keeps the share outside and what it is."""

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlmodel import Session, col, select

from driftline.errors import DriftlineError
from driftline.moment import now_us
from driftline.protocols import Messages
from driftline.store.engine import reading, writing
from driftline.store.generations import began_since
from driftline.store.hashing import content_hash
from driftline.store.tables import Coverage, Generation, GoldenItem
from scheduler.scoring import messages_of
from scheduler.work import Work

if TYPE_CHECKING:
    from evaluators.scorers.embeddings import Embedder

MOST_PROMPTS = 2000  # of traffic; a uniform sample by the records' keys
MOST_ITEMS = 3000  # of the golden version; a uniform sample by their hashes
SHOWN = 300  # letters of a typical prompt


def measure(work: Work) -> dict[str, Any]:
    """Compares args["golden_version_id"] with what args["route"] was asked in args["window_us"].

    Raises:
        DriftlineError: There is no traffic with stored prompts in the window, or the golden set is too small.
    """
    from evaluators.coverage import coverage, item_weights

    version_id, route = int(work.args["golden_version_id"]), str(work.args["route"])
    until = now_us()
    since = until - int(work.args["window_us"])
    with reading() as session:
        items = _items(session, version_id)
        asked = _asked(session, work.project, route, since)
    if not asked:
        where = f"the route {route}" if route else "any route"
        raise DriftlineError(f"No call of {where} in the window has a stored prompt, so nothing can be covered.")
    encoder = embedder()
    golden = encoder.embed([text for _, text in items])
    traffic = encoder.embed([text for _, text, _ in asked])
    found = coverage(golden, traffic, [1.0 / rate for _, _, rate in asked])
    weights = item_weights(found.stands_for, found.prompts)
    groups = [
        {
            "share": group.share, "size": group.size,
            "typical": [asked[place][1][:SHOWN] for place in group.typical],
            "generations": [asked[place][0] for place in group.typical],
        }
        for group in found.groups
    ]  # fmt: skip
    with writing() as session:
        work.hold(session)
        row = Coverage(
            project_id=work.project, golden_version_id=version_id, route=route, since=since, until=until,
            n_prompts=found.prompts, n_items=len(items), encoder=encoder.name, radius=found.radius,
            outside=found.outside, low=found.low, high=found.high, expected=found.expected,
            expected_high=found.expected_high, groups=groups,
            weights={str(key): round(weight, 6) for (key, _), weight in zip(items, weights, strict=True)},
            sample_hash=content_hash([key for key, _, _ in asked]), created_at=until,
        )  # fmt: skip
        session.add(row)
        session.flush()
        return {"coverage_id": row.id, "outside": found.outside, "low": found.low, "high": found.high}


@lru_cache(maxsize=1)
def embedder() -> "Embedder":
    """The encoder of this worker, loaded once."""
    from evaluators.scorers.embeddings import Embedder

    return Embedder()


def _items(session: Session, version_id: int) -> list[tuple[int, str]]:
    of_version = select(GoldenItem.id, GoldenItem.messages).where(GoldenItem.version_id == version_id)
    rows = session.exec(of_version.order_by(col(GoldenItem.content_hash)).limit(MOST_ITEMS))
    return [(key, question(tuple(messages))) for key, messages in rows]


def _asked(session: Session, project_id: int, route: str, since: int) -> list[tuple[str, str, float]]:
    """Id, question and inclusion probability of a uniform sample of calls."""
    query = select(Generation.id, Generation.input, Generation.sample_rate).where(
        Generation.project_id == project_id,
        began_since(session.connection(), since),
        col(Generation.input).is_not(None),
    )
    query = query.where(Generation.route == route) if route else query
    rows = session.exec(query.order_by(col(Generation.sample_key)).limit(MOST_PROMPTS)).all()
    told = [(key, question(messages_of(stored)), rate) for key, stored, rate in rows]
    return [one for one in told if one[1].strip()]


def question(messages: Messages) -> str:
    """What a conversation asks: the last message of the user."""
    for message in reversed(messages):
        if message.get("role") == "user":
            return str(message.get("content", ""))
    return str(messages[-1].get("content", "")) if messages else ""
