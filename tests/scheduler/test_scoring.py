"""Production answers are scored once, in bounded turns; true answers may come days late."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlmodel import col, select

from driftline.acts import monitors
from driftline.moment import DAY, SECOND
from driftline.store.engine import reading, writing
from driftline.store.tables import Bookmark, Feedback, Generation, Job, Monitor, Score
from evaluators.scorers import scorer
from scheduler import scoring
from scheduler.work import run_job

FREE, LABELLED = "empty", "contains"


@pytest.fixture
def watch(world: Any) -> Callable[[str], Monitor]:
    """A quality monitor of an evaluator, with the bookmark the clock makes."""

    def add(evaluator: str) -> Monitor:
        with writing() as session:
            row = monitors.add(session, world.project_id, evaluator, "quality", "test", source=evaluator)
            scoring.ensure_bookmark(session, row)
        return row

    return add


@pytest.fixture
def score(world: Any, ask: Any, time: Any) -> Callable[..., list[str | None]]:
    """Runs the scoring of an evaluator until nothing is left, after records have settled; gives the outcomes."""

    def run(evaluator: str, turns: int = 200) -> list[str | None]:
        time.advance(3)
        job_id = ask("traffic.score", {"route": "default", "evaluator": evaluator}, project_id=world.project_id)
        outcomes = [run_job(job_id)]
        while outcomes[-1] == "queued" and len(outcomes) < turns:
            outcomes.append(run_job(job_id))
        return outcomes

    return run


def feedback(world: Any, time: Any, generations: dict[str, str], name: str = "expected") -> None:
    with writing() as session:
        session.add_all(
            Feedback(
                project_id=world.project_id, id=f"{name}-{identity}-{time.now}", generation_id=identity, name=name,
                label=truth, received_at=time.now,
            )
            for identity, truth in generations.items()
        )  # fmt: skip


def scores() -> list[Score]:
    with reading() as session:
        return list(session.exec(select(Score).order_by(col(Score.id))))


def position() -> int:
    with reading() as session:
        return session.exec(select(Bookmark)).one().position


def test_each_answer_is_scored_once_however_often_the_job_runs(world: Any, time: Any, watch: Any, score: Any) -> None:
    watch(FREE)
    seqs = world.traffic(world.recorded("base"), [time.now + n for n in range(40)])
    for _ in range(3):
        assert score(FREE)[-1] == "done"
    assert [row.generation_seq for row in scores()] == seqs
    assert position() == seqs[-1]
    world.traffic(world.recorded("base"), [time.now + n for n in range(5)])
    score(FREE)
    assert len(scores()) == 45


def test_a_record_rests_before_it_is_scored(world: Any, time: Any, watch: Any, score: Any) -> None:
    watch(FREE)
    world.traffic(world.recorded("base"), [time.now + 2 * SECOND])
    score(FREE)
    assert scores() == []
    score(FREE)
    assert len(scores()) == 1


def test_a_score_says_when_what_it_judges_came_in(world: Any, time: Any, watch: Any, score: Any) -> None:
    watch(FREE)
    arrived = time.now
    world.traffic(world.recorded("base"), [arrived])
    time.advance(500)
    score(FREE)
    (row,) = scores()
    assert row.arrived_at == arrived
    assert row.created_at == time.now


def test_two_runs_of_one_turn_write_it_once(
    world: Any, time: Any, watch: Any, score: Any, ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch(FREE)
    world.traffic(world.recorded("base"), [time.now + n for n in range(10)])
    genuine, doubled = scorer, list[str]()

    def slow(name: str, **options: Any) -> Any:
        if not doubled:
            doubled.append(name)
            score(FREE)  # another worker does the whole turn while this one still judges
        return genuine(name, **options)

    monkeypatch.setattr(scoring, "scorer", slow)
    score(FREE)
    assert len(scores()) == 10


def test_a_long_backlog_is_thinned_out_evenly_and_caught_up_with(
    world: Any, time: Any, watch: Any, score: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "BATCH", 8)
    monkeypatch.setattr(scoring, "MOST_WAITING", 64)
    watch(FREE)
    seqs = world.traffic(world.recorded("base"), [time.now + n for n in range(1000)])
    turns = score(FREE)
    judged = [row.generation_seq for row in scores()]
    assert position() == seqs[-1]
    assert len(turns) < 40
    assert len(judged) == len(set(judged)) < 300
    quarters = [sum(low <= seq - seqs[0] < low + 250 for seq in judged) for low in range(0, 1000, 250)]
    assert min(quarters) > 8, "every part of the backlog has its share"


def test_of_a_long_backlog_no_more_answers_are_read_than_are_scored(
    world_on_each: Any, ask: Any, time: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "BATCH", 8)
    monkeypatch.setattr(scoring, "MOST_WAITING", 64)
    with writing() as session:
        row = monitors.add(session, world_on_each.project_id, FREE, "quality", "test", source=FREE)
        scoring.ensure_bookmark(session, row)
    read, genuine = list[int](), scoring._read

    def reading_rows(*given: Any) -> Any:
        found = genuine(*given)
        read.append(len(found))
        return found

    monkeypatch.setattr(scoring, "_read", reading_rows)
    world_on_each.traffic(world_on_each.recorded("base"), [time.now + n for n in range(1000)])
    time.advance(3)
    job = ask("traffic.score", {"route": "default", "evaluator": FREE}, project_id=world_on_each.project_id)
    while run_job(job) == "queued":
        pass
    assert max(read) == 8
    assert 60 < sum(read) == len(scores()) < 300


def test_an_evaluator_that_needs_the_truth_waits_for_it_however_late_it_comes(
    world: Any, time: Any, watch: Any, score: Any
) -> None:
    watch(LABELLED)
    base = world.recorded("base")
    world.traffic(base, [time.now, time.now + 1, time.now + 2], id=["a", "b", "c"], output=["It is 7.", "8", "9"])
    score(LABELLED)
    assert scores() == []
    feedback(world, time, {"b": "nine"})
    score(LABELLED)
    time.now += 3 * DAY
    late = time.now
    feedback(world, time, {"a": "7"})
    score(LABELLED)
    assert [(row.value, row.arrived_at) for row in scores()][1] == (1.0, late)
    assert [row.value for row in scores()] == [0.0, 1.0]


def test_feedback_of_another_name_is_no_truth(world: Any, time: Any, watch: Any, score: Any) -> None:
    watch(LABELLED)
    world.traffic(world.recorded("base"), [time.now], id=["a"])
    feedback(world, time, {"a": "Me."}, name="thumbs")
    score(LABELLED)
    assert scores() == []


def test_a_truth_given_twice_scores_once(world: Any, time: Any, watch: Any, score: Any) -> None:
    watch(LABELLED)
    world.traffic(world.recorded("base"), [time.now], id=["a"], output="7")
    feedback(world, time, {"a": "7"})
    score(LABELLED)
    time.advance(1)
    feedback(world, time, {"a": "8"})
    score(LABELLED)
    assert [row.value for row in scores()] == [1.0]


def test_a_call_that_failed_is_the_lowest_score_and_says_why(world: Any, time: Any, watch: Any, score: Any) -> None:
    watch(LABELLED)
    world.traffic(world.recorded("base"), [time.now], id=["a"], status="error", error="timeout", output=None)
    feedback(world, time, {"a": "7"})
    score(LABELLED)
    assert [(row.value, row.because) for row in scores()] == [(0.0, "the answer is an error: timeout")]


def test_an_evaluator_of_the_baseline_waits_until_there_is_one(world: Any, time: Any, watch: Any, score: Any) -> None:
    watch("baseline_likelihood")
    world.traffic(world.recorded("base"), [time.now])
    assert score("baseline_likelihood") == ["done"]
    assert scores() == []
    assert position() == 0


def test_a_baseline_that_gives_no_likelihoods_is_named_by_its_monitor_and_piles_up_no_failures(
    world: Any, time: Any, watch: Any, score: Any
) -> None:
    monitor = watch("baseline_likelihood")
    base = world.recorded("base")
    world.production(base)
    world.traffic(base, [time.now])
    assert [score("baseline_likelihood") for _ in range(3)] == [["done"]] * 3
    with reading() as session:
        assert session.exec(select(Job)).all() == []
        problem = session.get_one(Monitor, monitor.id).pending["problem"]
    assert "variant base gives no log-probabilities" in problem


def test_a_monitor_judges_only_up_to_where_its_scores_have_come(
    world: Any, time: Any, watch: Any, score: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "BATCH", 4)
    row = watch(FREE)
    arrived = [time.now + n * SECOND for n in range(10)]
    base = world.recorded("base")
    world.traffic(base, arrived)
    world.traffic(base, [time.now], route="other")
    time.advance(20)

    def until() -> int | None:
        with reading() as session:
            return scoring.scored_until(session, row)

    assert until() == arrived[0]
    score(FREE, turns=1)
    assert until() == arrived[4]
    score(FREE)
    assert until() is None


@pytest.mark.parametrize(
    "stored", ["plain text", '"a JSON text"', '[{"role": "user", "content": "Who?"}, 7]', "", None]
)
def test_a_stored_prompt_is_read_as_messages_whatever_its_form(stored: str | None) -> None:
    messages = scoring.messages_of(stored)
    assert all(set(message) == {"role", "content"} for message in messages)
    assert bool(messages) == bool(stored)


def test_scoring_reads_no_other_project(world: Any, time: Any, watch: Any, score: Any) -> None:
    from driftline.store.projects import ensure_project

    watch(FREE)
    world.traffic(world.recorded("base"), [time.now])
    with writing() as session:
        other = ensure_project(session, "other").id
        for row in session.exec(select(Generation)):
            row.project_id = other
            session.add(row)
    score(FREE)
    assert scores() == []
