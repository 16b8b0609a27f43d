"""Golden sets grow from production traffic, redacted, and never lose what they hold."""

import json
from typing import Any

import pytest
from sqlmodel import Session

from collector.redact import redact
from driftline.acts.golden import canonical, find_version, import_items
from driftline.acts.golden_changes import add_items, difference, from_traffic, items_of
from driftline.acts.variants import declare
from driftline.errors import BadInput, NotFound
from driftline.store.engine import writing
from driftline.store.hashing import sample_key
from driftline.store.projects import ensure_project
from driftline.store.tables import Feedback, Generation


@pytest.fixture
def session(store: object) -> Any:
    with writing() as opened:
        yield opened


@pytest.fixture
def project(session: Session) -> int:
    return ensure_project(session).id


def call(session: Session, project: int, key: str, prompt: Any, **columns: Any) -> None:
    spec = {"runner": "recorded", "runner_config": {"answers": {}}, "chain": []}
    variant = declare(session, project, "base", spec, "ann")
    stored = json.dumps([{"role": "user", "content": prompt}]) if isinstance(prompt, str) else prompt
    row = {"id": key, "started_at": 1000, "received_at": 1000, "input": stored, "output": "It is so."}
    session.add(Generation(project_id=project, variant_id=variant.id, sample_key=sample_key(key), **(row | columns)))
    session.flush()


def test_calls_become_items_without_personal_data_and_with_what_people_expected(session: Session, project: int) -> None:
    call(session, project, "a", "Mail ana@example.org, please.", session_id="s1")
    call(session, project, "b", "And me?", session_id="s1")
    call(session, project, "c", "Alone?")
    told = {"generation_id": "a", "name": "expected", "label": "Call +49 30 901820."}
    session.add(Feedback(project_id=project, id="f", received_at=1, **told))
    session.flush()
    items = {item["messages"][0]["content"]: item for item in from_traffic(session, project, redact)}
    assert sorted(items) == ["Alone?", "And me?", "Mail [email], please."]
    assert items["Mail [email], please."]["expected"] == ["Call [phone]."]
    assert items["And me?"]["expected"] == []
    assert items["And me?"]["cluster"] is not None
    assert items["And me?"]["cluster"] == items["Mail [email], please."]["cluster"]
    assert items["Alone?"]["cluster"] is None


def test_an_answer_is_expected_only_where_that_is_asked_for(session: Session, project: int) -> None:
    call(session, project, "a", "Who?")
    assert from_traffic(session, project, redact)[0]["expected"] == []
    assert from_traffic(session, project, redact, expect_answers=True)[0]["expected"] == ["It is so."]


def test_chosen_calls_are_taken_and_unknown_ones_named(session: Session, project: int) -> None:
    for key in "abc":
        call(session, project, key, f"Question {key}?", route="chat" if key == "c" else "default")
    taken = from_traffic(session, project, redact, ids=["b"])
    assert [item["messages"][0]["content"] for item in taken] == ["Question b?"]
    assert len(from_traffic(session, project, redact, limit=2)) == 2
    assert len(from_traffic(session, project, redact, route="chat")) == 1
    with pytest.raises(NotFound, match="There is no generation x"):
        from_traffic(session, project, redact, ids=["a", "x"])
    with pytest.raises(BadInput, match=r"No call since .* with a stored prompt is found"):
        from_traffic(session, project, redact, since=2000)


def test_a_call_whose_roles_other_tools_named_is_taken_like_all_others(session: Session, project: int) -> None:
    roles = ("human", "ai", "function", "critic", "System")
    call(session, project, "a", "", input=json.dumps([{"role": role, "content": "x"} for role in roles]))
    call(session, project, "b", "", input="[]")
    (item,) = from_traffic(session, project, redact)
    assert [one["role"] for one in item["messages"]] == ["user", "assistant", "tool", "user", "system"]


def test_a_sample_that_finds_nothing_says_where_it_looked(session: Session, project: int) -> None:
    with pytest.raises(BadInput, match=r"No call of route r since 2001-09-09T01:46:40\.000Z with a stored prompt"):
        from_traffic(session, project, redact, route="r", since=10**15)


def test_a_new_version_keeps_the_old_items_and_their_truths(session: Session, project: int) -> None:
    old = [canonical({"input": "Who?", "expected": "me"}), canonical({"input": "Where?"})]
    before, _ = import_items(session, project, "qa", old, "ann", source="file")
    new = [canonical({"input": "Who?", "expected": "you"}), canonical({"input": "When?"})]
    after, known = add_items(session, project, "qa", new, "ann", "production traffic")
    assert (after.number, after.n_items, known) == (2, 3, 1)
    found = difference(session, before, after)
    assert (found.removed, found.added, found.changed) == ([], ["When?"], [])
    assert items_of(session, find_version(session, project, "qa"))[0]["expected"] == ["me"]
    with pytest.raises(BadInput, match="qa asks all 2 of these already"):
        add_items(session, project, "qa", new, "ann", "production traffic")
