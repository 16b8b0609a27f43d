"""A remote baseline is asked again for a few items before its old answers are trusted."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from far_models import FarModel, far_model
from sqlmodel import col, select

from driftline.acts.replays import CANARY, request_replay
from driftline.store.engine import reading, writing
from driftline.store.tables import Comparison, Replay

ITEMS = [(f"Question {place}?", f"answer {place}") for place in range(80)]


@pytest.fixture
def model() -> Iterator[FarModel]:
    """Answers every question right."""
    with far_model(right_below(80)) as model:
        yield model


def right_below(right: int) -> Callable[[str], str]:
    """Answers so many of the questions right."""

    def answer(asked: str) -> str:
        place = int(asked.removeprefix("Question ").removesuffix("?"))
        return f"answer {place}" if place < right else "I do not know."

    return answer


def compared(world: Any, work_off: Any, model: FarModel, right_later: int) -> tuple[Comparison, int]:
    """The newest comparison with a remote baseline that answered all right first, and how many replays there are."""
    far = world.declare("far", model.spec)
    golden, ours = world.golden(ITEMS), world.recorded("ours", 76, ITEMS)
    with writing() as session:
        request_replay(session, world.project_id, far, golden, "ann", scorers=["contains"])
    work_off(early=True)
    model.answer = right_below(right_later)
    with writing() as session:
        request_replay(session, world.project_id, ours, golden, "ann", scorers=["contains"], baseline=far, margin=0.1)
    work_off(early=True)
    with reading() as session:
        rows = session.exec(select(Comparison).order_by(col(Comparison.id).desc())).all()
        return rows[0], len(session.exec(select(Replay)).all())


def test_a_baseline_that_has_not_changed_keeps_its_replay(world: Any, work_off: Any, model: Any) -> None:
    row, replays = compared(world, work_off, model, 80)
    assert (row.baseline_mean, replays) == (1.0, 3)
    canary = row.evidence["canary"]
    assert (canary["n"], canary["same"], canary["moved"]) == (CANARY, CANARY, False)


def test_a_baseline_that_has_changed_is_replayed_anew_before_anything_is_said(
    world: Any, work_off: Any, model: Any
) -> None:
    row, replays = compared(world, work_off, model, 8)
    assert (row.baseline_mean, replays) == (0.1, 4)
    assert row.verdict == "better"
    assert row.evidence["canary"]["moved"]
    assert row.evidence["canary"]["stale_replay_id"] != row.baseline_replay_id
