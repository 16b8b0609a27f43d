"""A golden version is answered completely, each item once, and a cancelled replay stops."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import col, select

from driftline.acts.replays import cancel_replay, request_replay, scorers_for
from driftline.errors import BadInput, Conflict
from driftline.store.engine import reading, writing
from driftline.store.tables import Answer, AuditEntry, Job, Replay, Score, Variant
from scheduler import answers as answers_module
from scheduler import models, replays
from scheduler.work import run_job

SCORERS = ["contains", "token_f1"]


def ask_for(world: Any, variant: Variant, **options: Any) -> Replay:
    golden = options.pop("golden", None) or world.golden()
    with writing() as session:
        return request_replay(session, world.project_id, variant, golden, "ann", **({"scorers": SCORERS} | options))


def now(replay: Replay) -> Replay:
    with reading() as session:
        return session.get_one(Replay, replay.id)


def answers(replay: Replay) -> list[Answer]:
    with reading() as session:
        return list(session.exec(select(Answer).where(Answer.replay_id == replay.id).order_by(col(Answer.item_id))))


def test_every_item_is_answered_and_scored_once(world_on_each: Any, work_off: Any) -> None:
    replay = ask_for(world_on_each, world_on_each.recorded("base", right=45))
    assert work_off() == [("replay.run", "done")]
    assert (now(replay).state, now(replay).n_items) == ("done", 60)
    found = answers(replay)
    assert [answer.text for answer in found[44:46]] == ["answer 44", "I do not know."]
    assert found[7].latency_ms == 107.0
    with reading() as session:
        values = session.exec(select(Score.value).where(Score.evaluator == "contains")).all()
        assert len(session.exec(select(Score)).all()) == 120
        (job,) = session.exec(select(Job)).all()
    assert (sum(value or 0 for value in values), len(values)) == (45, 60)
    assert (job.progress_done, job.progress_total) == (60, 60)


def test_who_asked_for_a_replay_is_on_record(world: Any) -> None:
    replay = ask_for(world, world.recorded("base"))
    with reading() as session:
        entry = session.exec(select(AuditEntry).where(AuditEntry.subject == f"replay:{replay.id}")).one()
    assert (entry.actor, entry.action, entry.detail) == ("ann", "replay.requested", {"variant": "base"})


def test_a_replay_that_takes_long_lets_others_have_a_turn_and_goes_on_where_it_stood(
    world: Any, work_off: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replays, "TURN_S", -1.0)
    replay = ask_for(world, world.recorded("base"))
    with reading() as session:
        job_id = session.exec(select(Job.id)).one()
    assert run_job(job_id) == "queued"
    assert answers(replay) == []
    monkeypatch.setattr(replays, "TURN_S", 15.0)
    assert work_off() == [("replay.run", "done")]
    assert len(answers(replay)) == 60


def test_a_cancelled_replay_stops_and_keeps_what_was_answered(
    world: Any, work_off: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    replay = ask_for(world, world.recorded("base"))
    genuine = answers_module.Maker.answer
    turns = iter(range(100))

    def cancelled_in_the_third_batch(*given: Any, **named: Any) -> int:
        if next(turns) == 2:
            with writing() as session:
                cancel_replay(session, session.get_one(Replay, replay.id), "ann")
        return genuine(*given, **named)

    monkeypatch.setattr(answers_module.Maker, "answer", cancelled_in_the_third_batch)
    assert work_off() == [("replay.run", "lost")]
    assert now(replay).state == "cancelled"
    assert len(answers(replay)) == 2 * replays.BATCH
    with writing() as session, pytest.raises(Conflict, match="is cancelled and cannot be cancelled"):
        cancel_replay(session, session.get_one(Replay, replay.id), "ann")


def test_a_replay_cancelled_before_its_turn_calls_no_model(world: Any, work_off: Any) -> None:
    replay = ask_for(world, world.declare("gone", {"runner": "recorded", "runner_config": {"path": "/no/such.csv"}}))
    with writing() as session:
        cancel_replay(session, session.get_one(Replay, replay.id), "ann")
    assert work_off() == [("replay.run", "done")]
    assert now(replay).state == "cancelled"


def test_a_variant_that_cannot_be_opened_fails_its_replay_with_the_reason(
    world: Any, work_off: Any, tmp_path: Path
) -> None:
    missing = world.declare(
        "gone", {"runner": "recorded", "runner_config": {"path": str(tmp_path / "answers.csv")}, "chain": []}
    )
    replay = ask_for(world, missing)
    assert work_off() == [("replay.run", "failed")]
    assert now(replay).state == "failed"
    assert "answers.csv cannot be read: No such file or directory" in (now(replay).error or "")


def test_one_prompt_without_an_answer_is_one_error_and_fails_nothing(world: Any, work_off: Any) -> None:
    golden = world.golden([("Question 1?", "answer 1"), ("Never recorded?", "x"), ("Question 2?", "answer 2")])
    replay = ask_for(world, world.recorded("base"), golden=golden)
    work_off()
    assert now(replay).state == "done"
    errors = [answer.error for answer in answers(replay)]
    assert errors[0] is errors[2] is None
    assert "Never recorded?" in (errors[1] or "")


def test_a_scorer_that_needs_a_model_which_cannot_weigh_says_so(world: Any, work_off: Any) -> None:
    replay = ask_for(world, world.recorded("base"), scorers=["reference_likelihood"])
    work_off()
    assert now(replay).state == "failed"
    assert "reference_likelihood" in (now(replay).error or "")


def test_a_name_known_from_traffic_alone_cannot_be_replayed(world: Any) -> None:
    stranger, golden = world.declare("stranger", {"runner": "external"}), world.golden()
    with writing() as session, pytest.raises(BadInput, match=r"known from traffic only.*variant add stranger"):
        request_replay(session, world.project_id, stranger, golden, "ann")


@pytest.mark.parametrize(
    ("runners", "expected"),
    [
        (["transformers"], ["reference_likelihood", "token_f1", "contains"]),
        (["transformers", "llama_cpp"], ["reference_likelihood", "token_f1", "contains"]),
        (["transformers", "openai"], ["token_f1", "contains"]),
        (["recorded"], ["token_f1", "contains"]),
    ],
)
def test_default_scorers_are_those_that_every_side_can_be_judged_by(runners: list[str], expected: list[str]) -> None:
    variants = [Variant(project_id=1, name=name, content_hash="", spec={"runner": name}) for name in runners]
    assert scorers_for(*variants) == expected


def test_a_replay_without_named_scorers_works_on_recorded_answers(world: Any, work_off: Any) -> None:
    replay = ask_for(world, world.recorded("base"), scorers=None)
    work_off()
    assert (now(replay).state, now(replay).scorers) == ("done", ["token_f1", "contains"])


def test_a_worker_keeps_a_few_models_open_and_the_same_variant_is_the_same_object(world: Any) -> None:
    models._open.clear()
    variants = [world.recorded(f"v{right}", right=right) for right in range(5)]
    first = models.model_of(variants[0])
    assert models.model_of(variants[0]) is first
    for variant in variants[1:]:
        models.model_of(variant)
    assert len(models._open) == models.HELD
    assert models.model_of(variants[0]) is not first


@pytest.fixture
def python_variant(world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Variant]:
    """A variant that is a function of the user's."""

    def declare(code: str) -> Variant:
        (tmp_path / "my_model.py").write_text(code)
        monkeypatch.syspath_prepend(str(tmp_path))
        spec = {"runner": "python", "runner_config": {"function": "my_model:answer"}, "chain": []}
        variant: Variant = world.declare("mine", spec)
        return variant

    return declare


def test_a_users_function_is_replayed_and_what_it_raises_is_that_items_error(
    world: Any, work_off: Any, python_variant: Callable[[str], Variant]
) -> None:
    code = (
        "def answer(messages, sampling):\n"
        "    number = messages[-1]['content'].split()[1].rstrip('?')\n"
        "    if number == '3':\n        raise RuntimeError('no threes')\n"
        "    return f'answer {number}'\n"
    )
    replay = ask_for(world, python_variant(code))
    work_off()
    found = answers(replay)
    assert [answer.error for answer in found if answer.error] == ["RuntimeError: no threes"]
    assert found[4].text == "answer 4"
