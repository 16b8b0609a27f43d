"""A replay may be shared by workers, bounded by a budget, repeated, spared what is known, and ended by its evidence."""

import itertools
import re
import sys
from types import ModuleType
from typing import Any

import pytest
from sqlmodel import Session, col, func, select

from driftline.acts.prices import set_price
from driftline.acts.replays import BATCH, LARGEST_BATCH, request_replay
from driftline.errors import BadInput
from driftline.store.engine import reading, writing
from driftline.store.tables import Answer, Comparison, GoldenItem, GoldenVersion, Job, Replay, Variant
from scheduler import replays
from scheduler.work import run_job

QUESTIONS = [(f"Question {place}?", f"answer {place}") for place in range(60)]
MANY = [(f"Question {place}?", f"answer {place}") for place in range(400)]


def ask_for(world: Any, variant: Variant, version: GoldenVersion, **options: Any) -> Replay:
    with writing() as session:
        return request_replay(
            session, world.project_id, variant, version, "ann", **({"scorers": ["contains"]} | options)
        )


def now(replay: Replay) -> Replay:
    with reading() as session:
        return session.get_one(Replay, replay.id)


def n_answers(replay: Replay) -> int:
    with reading() as session:
        return session.exec(select(func.count(col(Answer.id))).where(Answer.replay_id == replay.id)).one()


def jobs(session: Session) -> list[Job]:
    return list(session.exec(select(Job).where(Job.kind == "replay.run").order_by(col(Job.id))))


def test_shards_answer_every_item_once_and_the_last_one_ends_the_replay(world_on_each: Any) -> None:
    replay = ask_for(world_on_each, world_on_each.recorded("base"), world_on_each.golden(), shards=3)
    with reading() as session:
        waiting = [job.id for job in jobs(session)]
    assert len(waiting) == 3
    states = []
    for job_id in reversed(waiting):
        assert run_job(job_id) == "done"
        states.append((now(replay).state, n_answers(replay)))
    assert [state for state, _ in states] == ["running", "running", "done"]
    assert states[-1][1] == len(QUESTIONS)


def test_known_answers_spend_no_call_and_are_taken_from_the_replay_that_has_them_all(world: Any, work_off: Any) -> None:
    base, version = world.recorded("base"), world.golden()
    ask_for(world, base, version)
    work_off()
    broken_off = ask_for(world, base, version, reuse=False, budget={"calls": 8})
    work_off()
    bounded = ask_for(world, base, version, budget={"calls": 8})
    work_off()
    assert [(now(one).calls, now(one).reused) for one in (broken_off, bounded)] == [(8, 0), (0, 60)]
    assert now(bounded).stopped is None


def test_the_order_is_shuffled_the_same_for_all_and_keeps_clusters_together(world: Any) -> None:
    from driftline.acts.golden import canonical, import_items

    items = [canonical({"input": f"Q{n}?", "expected": "x", "cluster": f"c{n % 10}"}) for n in range(50)]
    with writing() as session:
        version = import_items(session, world.project_id, "clustered", items, "ann", source="test")[0]
    with reading() as session:
        order = replays.test_order(session, version.id)
        cluster = dict(session.exec(select(GoldenItem.id, GoldenItem.cluster)).all())
        assert order == replays.test_order(session, version.id)
    assert order != sorted(order)
    changes = sum(cluster[a] != cluster[b] for a, b in itertools.pairwise(order))
    assert changes == 9


def test_items_for_training_never_judge(world: Any, work_off: Any) -> None:
    from driftline.acts.golden import canonical, import_items

    items = [canonical({"input": f"Question {n}?", "expected": "x", "split": "train" if n < 20 else "test"})
             for n in range(60)]  # fmt: skip
    with writing() as session:
        version = import_items(session, world.project_id, "split", items, "ann", source="test")[0]
        only_train = import_items(session, world.project_id, "t", items[:20], "ann", source="test")[0]
    replay = ask_for(world, world.recorded("base"), version)
    work_off()
    assert (now(replay).n_items, n_answers(replay)) == (40, 40)
    with reading() as session:
        judged = select(GoldenItem.split).join(Answer, col(Answer.item_id) == GoldenItem.id)
        assert set(session.exec(judged)) == {"test"}
    with pytest.raises(BadInput, match="All items of this golden version are marked for training"):
        ask_for(world, world.recorded("base"), only_train)


def test_a_budget_of_calls_holds_exactly_and_the_rest_is_not_asked(world: Any, work_off: Any) -> None:
    replay = ask_for(world, world.recorded("base"), world.golden(), budget={"calls": 21}, shards=2)
    work_off()
    ended = now(replay)
    assert (ended.state, ended.calls, n_answers(replay)) == ("done", 21, 21)
    assert ended.stopped == "its budget of 21 calls is spent"


@pytest.mark.parametrize(
    ("budget", "says"),
    [({"tokens": 30}, "30 tokens"), ({"usd": 0.000_1}, "0.0001 usd"), ({"joules": 1e-9}, "1e-09 joules")],
)  # fmt: skip
def test_every_budget_ends_the_replay_after_the_batch_in_hand(
    world: Any, work_off: Any, budget: dict[str, float], says: str
) -> None:
    answers = {q: {"text": a, "input_tokens": 10, "output_tokens": 5} for q, a in QUESTIONS}
    variant = world.declare("base", {"runner": "recorded", "runner_config": {"answers": answers}, "chain": []})
    with writing() as session:
        set_price(session, world.project_id, "base", 1.0, 4.0, "ann")
    replay = ask_for(world, variant, world.golden(), budget=budget)
    work_off()
    ended = now(replay)
    assert (ended.state, n_answers(replay)) == ("done", BATCH)
    assert ended.stopped == f"its budget of {says} is spent"
    assert (ended.tokens, ended.cost_nano) == (15 * BATCH, 30_000 * BATCH)


def test_a_budget_of_tokens_that_nothing_counts_ends_the_replay_instead_of_being_ignored(
    world: Any, work_off: Any
) -> None:
    replay = ask_for(world, world.recorded("base"), world.golden(), budget={"tokens": 1000})
    work_off()
    ended = now(replay)
    assert (ended.state, n_answers(replay)) == ("done", 32)
    assert ended.stopped == "nothing counts its tokens, so its budget of 1000 tokens cannot be kept"


def test_a_budget_of_seconds_ends_the_replay_when_they_have_passed(world: Any, work_off: Any) -> None:
    replay = ask_for(world, world.recorded("base"), world.golden(), budget={"seconds": 1e-9})
    work_off()
    assert (now(replay).state, now(replay).stopped) == ("done", "its budget of 1e-09 seconds is spent")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"budget": {"calls": 0}}, "A budget of 0 calls cannot be spent"),
        ({"budget": {"patience": 3}}, "There is no budget in patience. Known: calls, tokens, usd, seconds, joules."),
        ({"budget": {"usd": 3}}, "Nobody knows what base costs"),
        ({"repeats": 3}, "the same prompt gives the same answer there"),
        ({"early_stop": True}, "A replay can stop early only where it is compared with a baseline"),
        ({"scorers": ["numeric:{0.1}"]}, "The configuration of scorer numeric is no JSON"),
        ({"scorers": ["numeric:7"]}, "must be a JSON object"),
    ],
)
def test_a_plan_that_cannot_be_kept_is_refused_when_asked_for(world: Any, options: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput, match=re.escape(says)):
        ask_for(world, world.recorded("base"), world.golden(), **options)


def test_repeats_are_drawn_with_other_seeds_and_averaged(
    world: Any, work_off: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("coin_of_a_test")
    vars(module)["toss"] = lambda messages, sampling: "yes" if sampling.seed % 2 else "no"
    monkeypatch.setitem(sys.modules, module.__name__, module)
    spec = {"runner": "python", "runner_config": {"function": "coin_of_a_test:toss"}, "chain": []}
    variant = world.declare("coin", spec)
    golden = world.golden([(f"Q{n}?", "yes") for n in range(20)])
    replay = ask_for(world, variant, golden, sampling={"temperature": 1.0}, repeats=4)
    work_off()
    assert (now(replay).state, now(replay).calls, n_answers(replay)) == ("done", 80, 80)
    from scheduler.comparisons import scores_of

    with reading() as session:
        scores, _ = scores_of(session, now(replay), "contains")
    assert set(scores.values()) == {0.5}
    assert len(scores) == 20


def test_what_the_same_fingerprint_answered_is_not_asked_again(world: Any, work_off: Any) -> None:
    version, base = world.golden(), world.recorded("base")
    first = ask_for(world, base, version)
    work_off()
    second, third = ask_for(world, base, version), ask_for(world, base, version, reuse=False)
    work_off()
    assert [(now(one).calls, now(one).reused) for one in (first, second, third)] == [(60, 0), (0, 60), (60, 0)]
    with reading() as session:
        rows = [
            session.exec(select(Answer.text, Answer.is_reused).where(Answer.replay_id == one.id)
                         .order_by(col(Answer.item_id))).all()
            for one in (first, second)
        ]  # fmt: skip
    assert [text for text, _ in rows[0]] == [text for text, _ in rows[1]]
    assert {reused for _, reused in rows[1]} == {True}


@pytest.mark.parametrize(("size", "together"), [(None, BATCH), (2, BATCH), (16, 16), (1000, LARGEST_BATCH)])
def test_items_are_answered_together_as_the_runner_batches_them(world: Any, size: int | None, together: int) -> None:
    config = {} if size is None else {"batch_size": size}
    chain = [{"method": "smollm2", "config": {}}]
    local = world.declare("local", {"runner": "transformers", "runner_config": config, "chain": chain})
    replay = ask_for(world, local, world.golden(MANY))
    assert replay.plan["batch"] == together
    order = list(range(len(MANY)))
    batches = replays.batches_of(order, 0, 1, together)
    assert [key for batch in batches for key in batch] == order
    assert {len(batch) for batch in batches[:-1]} <= {together}


def test_the_answers_of_a_remote_model_are_never_taken_over_unasked(world: Any) -> None:
    config = {"base_url": "http://127.0.0.1:9/v1", "model": "m"}
    remote = world.declare("remote", {"runner": "openai", "runner_config": config, "chain": []})
    replay = ask_for(world, remote, world.golden(MANY))
    assert (replay.plan["reuse"], replay.plan["shards"]) == (False, 8)


def test_a_replay_ends_as_soon_as_the_evidence_decides(world: Any, work_off: Any) -> None:
    golden = world.golden(MANY)
    base, broken = world.recorded("base", 380, MANY), world.recorded("broken", 180, MANY)
    replay = ask_for(world, broken, golden, baseline=base, margin=0.02, early_stop=True)
    work_off(early=True)
    ended = now(replay)
    assert ended.state == "done"
    assert n_answers(replay) < 100
    assert "the evidence decides: worse than the baseline" in (ended.stopped or "")
    with reading() as session:
        row = session.exec(select(Comparison)).one()
    assert (row.verdict, row.method) == ("worse", "betting interval, valid at any stopping time")
    assert row.evidence["stopped"] == ended.stopped
    assert row.low < row.estimate < row.high < -0.02


def test_a_replay_that_nothing_decides_runs_to_its_end_and_is_judged_as_a_whole(world: Any, work_off: Any) -> None:
    golden = world.golden()
    base, close = world.recorded("base", 50), world.recorded("close", 48)
    replay = ask_for(world, close, golden, baseline=base, margin=0.02, early_stop=True)
    work_off(early=True)
    assert (now(replay).stopped, n_answers(replay)) == (None, 60)
    assert now(replay).looked["items"] == 60
    with reading() as session:
        row = session.exec(select(Comparison)).one()
    assert row.verdict == "undecided"
    assert "Bayesian bootstrap" in row.method
    assert row.evidence["n_to_decide"] > 60


def test_latency_tokens_money_and_memory_stand_in_one_table(world: Any, work_off: Any) -> None:
    sides = {}
    for name, factor in (("base", 1.0), ("int8", 2.0)):
        answers = {
            q: {"text": a, "latency_ms": factor * (100 + n), "ttft_ms": 10.0, "input_tokens": 10, "output_tokens": 5}
            for n, (q, a) in enumerate(QUESTIONS)
        }
        sides[name] = world.declare(name, {"runner": "recorded", "runner_config": {"answers": answers}, "chain": []})
        with writing() as session:
            set_price(session, world.project_id, name, factor, factor, "ann")
            row = session.get_one(Variant, sides[name].id)
            row.measured = {"bytes_stored": 1000 / factor}
            session.add(row)
    ask_for(world, sides["int8"], world.golden(), baseline=sides["base"], reuse=False)
    work_off(early=True)
    with reading() as session:
        costs = {row["name"]: row for row in session.exec(select(Comparison)).one().evidence["costs"]}
    assert round(costs["latency"]["ratio"], 6) == 2.0
    assert costs["latency"]["low"] <= 2.0 <= costs["latency"]["high"]
    assert (costs["first token"]["ratio"], costs["output tokens"]["ratio"]) == (1.0, 1.0)
    assert costs["money"]["ratio"] == 2.0
    assert costs["bytes stored"]["ratio"] == 0.5
