"""Recent traffic that a plan may learn from: consented, redacted, and none of what judges.

A record may be learned from where its tag `consent` says `training`. Its answer counts as right where somebody said
what the true answer is, or where the route's baseline gave it: a variant that is to be repaired is no teacher.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session, col, select

from collector.redact import redact
from driftline.settings import settings
from driftline.store.hashing import content_hash
from driftline.store.tables import Feedback, Generation, GoldenItem
from scheduler.scoring import messages_of

CONSENT = ("consent", "training")
NEWEST = 5000  # records looked at
LEAST_EXAMPLES = 32
MOST_EXAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Recent:
    """Texts of recent prompts, questions with their true answers, and the path of a training file, if there is one."""

    prompts: tuple[str, ...] = ()
    shots: tuple[tuple[str, str], ...] = ()
    traffic: str | None = None


def recent(session: Session, project_id: int, route: str, baseline_id: int | None, golden_version_id: int) -> Recent:
    """What of the route's newest records may be learned from, newest first, each prompt once."""
    of_route = select(Generation).where(
        Generation.project_id == project_id, Generation.route == route, col(Generation.input).is_not(None),
    )  # fmt: skip
    judges = {
        content_hash(item)
        for item in session.exec(select(GoldenItem.messages).where(GoldenItem.version_id == golden_version_id))
    }
    seen: set[str] = set()
    kept: list[tuple[list[dict[str, str]], str | None, bool]] = []  # messages, answer, whether it is the true one
    rows = session.exec(of_route.order_by(col(Generation.seq).desc()).limit(NEWEST)).all()
    chosen = [row for row in rows if row.tags.get(CONSENT[0]) == CONSENT[1]]
    truths = truths_of(session, project_id, [row.id for row in chosen])
    for row in chosen:
        messages = [{**message, "content": redact(message["content"])} for message in messages_of(row.input)]
        digest = content_hash(messages)
        if not messages or digest in seen or digest in judges or content_hash(list(messages_of(row.input))) in judges:
            continue
        seen.add(digest)
        truth = truths.get(row.id)
        taught = row.output if row.variant_id == baseline_id and row.status == "ok" else None
        answer = truth or taught
        kept.append((messages, redact(answer) if answer else None, truth is not None))
    shots = [(one[-1]["content"], answer) for one, answer, true in kept if true and answer and len(one) == 1]
    return Recent(
        tuple(one[-1]["content"] for one, _, _ in kept[:256]), tuple(shots[:16]), _written([
            {"messages": one, "answer": answer} for one, answer, _ in kept if answer
        ][:MOST_EXAMPLES]),
    )  # fmt: skip


def truths_of(session: Session, project_id: int, ids: list[str]) -> dict[str, str]:
    """The true answers that came in as feedback, by the id of the record."""
    found: dict[str, str] = {}
    for start in range(0, len(ids), 500):
        given = select(Feedback.generation_id, Feedback.label).where(
            Feedback.project_id == project_id, Feedback.name == "expected",
            col(Feedback.generation_id).in_(ids[start : start + 500]),
        )  # fmt: skip
        found |= {key: label for key, label in session.exec(given) if label}
    return found


def _written(examples: list[dict[str, Any]]) -> str | None:
    """The path of a file with these examples, named by its content; None where they are too few to learn from."""
    if len(examples) < LEAST_EXAMPLES:
        return None
    content = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in examples).encode()
    folder = settings().data_dir.absolute() / "training"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{hashlib.sha256(content).hexdigest()[:32]}.jsonl"
    if not path.exists():
        part = path.with_suffix(".part")
        part.write_bytes(content)
        part.replace(path)
    return str(path)
