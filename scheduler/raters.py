"""The scorers of a replay, set up: judges get the variant that judges, the others the model that is replayed."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from sqlmodel import Session, col, select

from driftline.acts.evaluators import read_evaluator
from driftline.acts.golden import find_version
from driftline.acts.variants import find_variant
from driftline.errors import BadInput
from driftline.protocols import Answered, Generate, LogProbs, Score
from driftline.store.engine import reading
from driftline.store.tables import GoldenItem, Replay
from evaluators.scorers import scorer
from scheduler.models import model_of

JUDGES = frozenset({"judge", "judge_pairwise"})
MOST_ANCHORS = 200
GRADE = "grade"  # the tag of an anchor that holds what people gave it, from 0 to 1


@dataclass
class Raters:
    """Scorers in the order of the replay, and the anchors on which the noise of its judges is measured."""

    scores: list[Score] = field(default_factory=list)
    anchors: dict[str, list[tuple[str, Answered, float]]] = field(default_factory=dict)  # hash, answer, human grade

    def __iter__(self) -> Iterator[Score]:
        return iter(self.scores)

    def noise(self) -> dict[str, Any]:
        """Per judge with anchors: its grade minus people's by anchor, and how often repeats agree; asks the judge."""
        found: dict[str, Any] = {}
        for rater in self.scores:
            anchors = self.anchors.get(rater.name)
            if not anchors:
                continue
            given = rater([answered for _, answered, _ in anchors])
            errors = {
                key: scored.value - grade
                for (key, _, grade), scored in zip(anchors, given, strict=True)
                if scored.value is not None
            }
            agreements = [float(scored.detail["agreement"]) for scored in given if "agreement" in scored.detail]
            found[rater.name] = {
                "version": rater.version, "anchors": len(anchors), "errors": errors,
                "agreement": sum(agreements) / len(agreements) if agreements else None,
            }  # fmt: skip
        return found


def raters_of(replay: Replay, model: Generate) -> Raters:
    """The scorers that a replay names.

    Raises:
        DriftlineError: A scorer, its configuration, its judge or its anchors cannot be used; says which and why.
    """
    made = Raters()
    for text in replay.scorers:
        name, config = read_evaluator(text)
        judge, anchors = config.pop("variant", None), config.pop("anchors", None)
        asked: Any = model if isinstance(model, LogProbs) else None
        with reading() as session:
            if judge is not None:
                asked = model_of(find_variant(session, replay.project_id, str(judge)))
            elif name in JUDGES:
                raise BadInput(
                    f'Scorer {name} needs a judge: name the variant that judges, as in {name}:{{"variant": "NAME"}}.'
                )
            if anchors is not None:
                made.anchors[name] = _anchors(session, replay.project_id, str(anchors))
        rater = scorer(name, model=asked, **config)
        if judge is not None:
            rater.version += f" by {asked.fingerprint[:12]}"
        made.scores.append(rater)
    return made


def _anchors(session: Session, project_id: int, name: str) -> list[tuple[str, Answered, float]]:
    version = find_version(session, project_id, name)
    of_version = select(GoldenItem).where(GoldenItem.version_id == version.id)
    found = []
    for item in session.exec(of_version.order_by(col(GoldenItem.position)).limit(MOST_ANCHORS)):
        try:
            grade = float(item.tags[GRADE])
            text = item.expected[0]
        except (KeyError, ValueError, IndexError):
            raise BadInput(
                f"Item {item.position} of {name} is no anchor: it needs the answer to be judged as `expected` and the "
                f'grade that people gave it, from 0 to 1, as the tag "{GRADE}".'
            ) from None
        if not 0.0 <= grade <= 1.0:
            raise BadInput(f"The grade of anchor {item.position} of {name} is {grade}; it must lie between 0 and 1.")
        answered = Answered(tuple(item.messages), text, tuple(item.expected[1:]), item.rubric, item.tags)
        found.append((item.content_hash[:16], answered, grade))
    return found
